"""One comment of a pull request, which is replaced by the next run."""

import json
from typing import Any

import pytest

from meshgate.collect.errors import ReadError
from meshgate.pipeline.pull_request import forge, publish
from tests.conftest import Serve
from tests.support.fakes import ANY, Answer, Request, answer

BODY = "<!-- meshgate-fleet -->\ngate open\n"


class Comments:
    """The comments of a pull request, in a forge."""

    def __init__(self, *bodies: str) -> None:
        self.bodies = dict(enumerate(bodies, 1))
        self.seen: list[Request] = []

    def answer(self, request: Request) -> Answer:
        """As a forge does, with pages of a hundred."""
        self.seen.append(request)
        if request.verb == "GET":
            page = int(request.query["page"][0])
            found: list[Any] = [{"id": id, "body": body} for id, body in self.bodies.items()]
            return answer(found[100 * (page - 1) : 100 * page])
        body = json.loads(request.body)["body"]
        known = request.verb in ("PATCH", "PUT")
        id = int(request.path.rpartition("/")[2]) if known else len(self.bodies) + 1
        self.bodies[id] = body
        return answer({"id": id}, 200 if known else 201)


def github(url: str, **changes: str) -> dict[str, str]:
    """The environment of a job of GitHub."""
    return {
        "GITHUB_API_URL": url,
        "GITHUB_REPOSITORY": "acme/mesh",
        "GITHUB_TOKEN": "a-token",
        "GITHUB_REF": "refs/pull/7/merge",
        **changes,
    }


def gitlab(url: str) -> dict[str, str]:
    """The environment of a job of GitLab."""
    return {
        "GITLAB_CI": "true",
        "CI_API_V4_URL": f"{url}/api/v4",
        "CI_PROJECT_ID": "12",
        "CI_MERGE_REQUEST_IID": "7",
        "MESHGATE_GITLAB_TOKEN": "a-token",
    }


@pytest.mark.parametrize(
    ("environment", "path", "one"),
    [
        (github, "/repos/acme/mesh/issues/7/comments", "/repos/acme/mesh/issues/comments/2"),
        (
            gitlab,
            "/api/v4/projects/12/merge_requests/7/notes",
            "/api/v4/projects/12/merge_requests/7/notes/2",
        ),
    ],
    ids=["GitHub", "GitLab"],
)
def test_the_second_run_replaces_the_comment_of_the_first(
    serve: Serve, environment: Any, path: str, one: str
) -> None:
    held = Comments("looks good")
    of = forge(environment(serve({ANY: held.answer}).url))

    assert publish(of, BODY) == "created"
    assert publish(of, BODY + "again") == "updated"

    assert held.bodies == {1: "looks good", 2: BODY + "again"}
    written = [each for each in held.seen if each.verb != "GET"]
    assert [each.path for each in written] == [path, one]


def test_the_comment_is_found_on_a_later_page(serve: Serve) -> None:
    held = Comments(*["other"] * 150, BODY)

    assert publish(forge(github(serve({ANY: held.answer}).url)), BODY + "new") == "updated"
    assert held.bodies[151] == BODY + "new"


def test_a_comment_that_only_quotes_the_marker_is_not_replaced(serve: Serve) -> None:
    held = Comments(f"> {BODY}")

    assert publish(forge(github(serve({ANY: held.answer}).url)), BODY) == "created"


def test_a_refused_comment_is_an_error_without_the_token(serve: Serve) -> None:
    of = forge(github(serve({ANY: lambda request: Answer(403, b"{}")}).url))

    with pytest.raises(ReadError, match="HTTP 403") as raised:
        publish(of, BODY)

    assert "a-token" not in str(raised.value)


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("GITHUB_TOKEN", "GITHUB_TOKEN is not set"),
        ("GITHUB_REF", "the number of the pull request is unknown"),
    ],
)
def test_what_is_missing_in_the_environment_is_named(missing: str, why: str) -> None:
    environment = github("http://127.0.0.1:1")
    del environment[missing]

    with pytest.raises(ReadError) as raised:
        forge(environment)

    assert why in raised.value.why


def test_the_number_may_be_given() -> None:
    of = forge(github("http://127.0.0.1:1", GITHUB_REF="refs/heads/main"), 9)

    assert of.comments.endswith("/issues/9/comments")

"""Maintain one comment of a pull request on GitHub, or of a merge request on GitLab."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import httpx

from meshgate.collect.errors import ReadError

_TIMEOUT = 30.0  # seconds for one request
_PAGES = 50  # of a hundred comments


class Forge(NamedTuple):
    """The comments of one pull request.

    Attributes:
        comments: the URL of its list of comments.
        comment: the URL of one comment, with `{id}` in it.
        headers: the credentials.
        update: the HTTP method that replaces a comment.
    """

    comments: str
    comment: str
    headers: Mapping[str, str]
    update: str


def forge(environment: Mapping[str, str], number: int | None = None) -> Forge:
    """Return the comments of the pull request of this CI job.

    Args:
        environment: the variables of the job.
        number: the number of the pull request, where the variables do not have it.

    Raises:
        ReadError: a variable is missing.
    """
    if "GITLAB_CI" in environment:
        needed = ("CI_API_V4_URL", "CI_PROJECT_ID", "MESHGATE_GITLAB_TOKEN")
        api, project, token = _needed(environment, needed)
        iid = number or environment.get("CI_MERGE_REQUEST_IID", "")
        _need_number(iid, "run the job in a merge request pipeline, or pass --number")
        notes = f"{api}/projects/{project}/merge_requests/{iid}/notes"
        return Forge(notes, f"{notes}/{{id}}", {"PRIVATE-TOKEN": token}, "PUT")
    api, repository, token = _needed(
        environment, ("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN")
    )
    found = number or environment.get("GITHUB_REF", "").removeprefix("refs/pull/").partition("/")[0]
    _need_number(found, "run the job for the event pull_request, or pass --number")
    issues = f"{api}/repos/{repository}/issues"
    headers = {
        "Authorization": f"Bearer {token}",
        "Accept": "application/vnd.github+json",
        "X-GitHub-Api-Version": "2022-11-28",
    }
    return Forge(f"{issues}/{found}/comments", f"{issues}/comments/{{id}}", headers, "PATCH")


def _needed(environment: Mapping[str, str], names: tuple[str, str, str]) -> tuple[str, str, str]:
    first, second, third = (environment.get(name, "") for name in names)
    for name, value in zip(names, (first, second, third), strict=True):
        if not value:
            raise ReadError(
                f"the environment variable {name} is not set",
                f"set {name}, or run the command in a job of GitHub or GitLab",
            )
    return first, second, third


def _need_number(number: "int | str", remedy: str) -> None:
    if not str(number).isdigit():
        raise ReadError("the number of the pull request is unknown", remedy)


def publish(of: Forge, body: str) -> str:
    """Create the comment, or replace the one that begins with the same line.

    Args:
        of: the pull request.
        body: the comment; its first line identifies it.

    Returns:
        `created`, or `updated`.

    Raises:
        ReadError: the forge does not respond, or refuses.
    """
    marker = body.partition("\n")[0]
    try:
        with httpx.Client(headers=dict(of.headers), timeout=_TIMEOUT) as client:
            known = next(
                (
                    each["id"]
                    for each in _comments(client, of)
                    if str(each.get("body") or "").startswith(marker)
                ),
                None,
            )
            if known is None:
                _checked(client.post(of.comments, json={"body": body}))
                return "created"
            _checked(client.request(of.update, of.comment.format(id=known), json={"body": body}))
            return "updated"
    except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
        raise ReadError(
            f"cannot write the comment: {error}", "check the token and its rights"
        ) from error


def _comments(client: httpx.Client, of: Forge) -> Iterator[Any]:
    for page in range(1, _PAGES + 1):
        answer = client.get(of.comments, params={"per_page": 100, "page": page})
        found = _checked(answer).json()
        yield from found
        if len(found) < 100:
            return


def _checked(answer: httpx.Response) -> httpx.Response:
    # not raise_for_status: its message has only the status
    if answer.is_error:
        raise ValueError(f"HTTP {answer.status_code} from {answer.request.url.host}")
    return answer

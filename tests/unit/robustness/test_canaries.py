"""Credentials in every field of every kind and in every option: none is in any output."""

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from meshgate.collect.kubernetes import Cluster
from meshgate.pipeline.reports import fetch, runs
from meshgate.report.visible import visible
from meshgate.settings import TOPICS, Setting, definitions
from meshgate.snapshot.istiod import ProxySync
from meshgate.snapshot.items import KINDS
from tests.conftest import Estate, Gate
from tests.support import fakes
from tests.support.builders import as_api, deployment, istiod, sidecar, snapshot
from tests.support.fakes import Answer, Request, answer
from tests.support.filled import filled

Estates = Callable[..., Estate]

CANARY = "c4n4ryC4n4ryC4n4ry"
FORMS = {
    "bearer": f"Bearer {CANARY}",
    "url": f"https://user:{CANARY}@example.test/x",
    "token in a url": f"https://{CANARY}@example.test/x?token={CANARY}&X-Amz-Signature={CANARY}",
    "json web token": f"eyJhbGciOiJSUzI1NiJ9.{CANARY}.{CANARY}",
    "github": f"ghp_{CANARY}",
    "private key": f"-----BEGIN PRIVATE KEY-----\n{CANARY}\n-----END PRIVATE KEY-----",
}
# what only texts that people read may contain
SAID = {
    **FORMS,
    "assignment": f"password={CANARY}",
    "json": f'{{"token": "{CANARY}"}}',
    "quoted words": f"client-secret 'a {CANARY}'",
    "json within a text": f'{{\\"token\\": \\"a {CANARY}\\"}}',
    "name and value": f'{{"name": "DB_PASSWORD", "value": "a {CANARY}"}}',
    "flag": f"--client-secret {CANARY}",
    "header of several words": f'Authorization: Digest username="x", response="{CANARY}"',
    "cookie": f"Cookie: a=b; c={CANARY}",
    "fragment of a url": f"https://example.test/#access_token={CANARY}",
    "password with a slash": f"postgres://user:a/{CANARY}@example.test/db",
}
# a value of an option, right or wrong
GIVEN = {**SAID, "wrong scheme": f"htp:/user:{CANARY}@example.test"}

HELD = snapshot(pods=(istiod(ip=fakes.address()), sidecar()), deployments=(deployment(),))
JOB = "/apis/batch/v1/namespaces/gates/jobs/gate"
PLACE = "configmap://gates/reports"

SETTINGS = [(topic, each) for topic in TOPICS.values() for each in definitions(topic)]


def test_the_forms_are_recognized() -> None:
    for form in GIVEN.values():
        assert CANARY not in visible(f"before {form} after")


def error_of(setting: Setting, text: str) -> str:
    """Return the error of a value; empty if it is accepted."""
    try:
        setting.value(text)
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("form", GIVEN.values(), ids=GIVEN)
@pytest.mark.parametrize("setting", [each for _, each in SETTINGS], ids=lambda each: each.flag)
def test_the_error_of_an_option_does_not_show_its_value(setting: Setting, form: str) -> None:
    if setting.switch:
        return
    for text in (form, f"a/b:{form}", f"1 via {form}", f"http://web.shop via {form}"):
        assert CANARY not in visible(error_of(setting, text))


def planted(item: str) -> list[msgspec.Struct]:
    """Return the objects of a list: those of the mesh, and one of each form."""
    kind = KINDS[item].type
    return [*getattr(HELD, item), *(filled(kind, form) for form in FORMS.values())]


def answers(store: dict[str, Any]) -> dict[str, Any]:
    """Return what the API server answers; it keeps ConfigMaps in `store`."""

    def config_map(request: Request) -> Answer:
        if request.verb in ("PUT", "POST"):
            value = json.loads(request.body)
            store[value["metadata"]["name"]] = value
            return answer(value, 201)
        name = request.path.rpartition("/")[2]
        return answer(store[name]) if name in store else fakes.refusal(404, "not found")

    said = " ".join(SAID.values())
    return {
        **fakes.api_answers(HELD),
        **{kind.path: answer(as_api(planted(item))) for item, kind in KINDS.items()},
        "/apis/apps/v1/statefulsets": fakes.refusal(403, said),
        JOB: lambda request: answer(json.loads(request.body) if request.body else {}),
        "/api/v1/namespaces/gates/events": lambda request: answer(json.loads(request.body), 201),
        fakes.ANY: config_map,
    }


def options(folder: Path) -> Iterator[str]:
    """Yield options of a run that can carry a credential, each with one."""
    user = f"user:{CANARY}"
    yield f"--report-url=https://{user}@reports.example.test/{{run}}?token={CANARY}"
    yield f"--metrics=http://{user}@127.0.0.1:1/push?token={CANARY}"
    yield f"--report-to={PLACE}"
    yield "--job=gates/gate@uid-1"
    yield f"--ingress-prober=http://{user}@127.0.0.1:1/probe?api_key={CANARY}"
    yield f"--ingress-url=http://{user}@127.0.0.1:1/?token={CANARY}"
    yield f"--retry-after-target=http://127.0.0.1:1/x?token={CANARY}"
    yield f"--allow-removal=* {FORMS['bearer']}"
    waivers = folder / "waivers.toml"
    waivers.write_text(
        f'[[waiver]]\ncheck = "CP001"\nsubject = "*"\nreason = "{FORMS["bearer"]}"\n'
        "until = 2099-01-01\n"
    )
    yield f"--waivers={waivers}"
    expect = folder / "expect.yaml"
    expect.write_text(
        "answers:\n- host: example.test\n  headers:\n"
        "    authorization: ${ODD}\n    x-version: Bearer ${ODD}\n"
    )
    yield f"--expect={expect}"


def test_no_output_of_any_stage_contains_a_credential(
    estate: Estates, gate: Gate, tmp_path: Path
) -> None:
    store: dict[str, Any] = {}
    cluster = estate(HELD)
    cluster.api.answers = answers(store)
    cluster.istiod.answers |= {
        "/debug/syncz": answer(
            [msgspec.to_builtins(filled(ProxySync, form)) for form in FORMS.values()]
        ),
        "/version": Answer(200, FORMS["bearer"].encode()),
        "/debug/push_status": Answer(500, " ".join(SAID.values()).encode()),
    }
    said = json.dumps(
        [{"code": "IST0101", "level": "Error", "message": each} for each in SAID.values()]
    )
    (tmp_path / "messages.json").write_text(said)
    fakes.istioctl(cluster.istioctl, analyze=f"cat {tmp_path / 'messages.json'}")
    kubeconfig = fakes.kubeconfig(tmp_path / "kubeconfig", cluster.api.url, CANARY)
    (tmp_path / "token").write_text(CANARY)

    run = gate(
        *cluster.options,
        *options(tmp_path),
        *("--settle=0", "--ingress-timeout=0.2", "--request-timeout=2", "--analyze-timeout=20"),
        ODD=f"{CANARY}\n{CANARY}",
    )

    assert run.code in (1, 10), run.out
    client = Cluster(config=str(kubeconfig))
    (kept,) = runs(PLACE, client)
    fetch(PLACE, kept.name, tmp_path / "fetched", client)
    outputs = {"stdout": run.out, "the index of reports": repr(runs(PLACE, client))}
    for file in (*(tmp_path / "reports").iterdir(), *(tmp_path / "fetched").iterdir()):
        content = file.read_bytes()
        outputs[str(file)] = (
            gzip.decompress(content) if file.suffix == ".gz" else content
        ).decode()
    sent = [each for each in cluster.api.requests if each.body]
    outputs |= {f"{each} {number}": each.body.decode() for number, each in enumerate(sent)}
    assert {"PATCH", "POST"} <= {each.verb for each in sent}
    assert len(outputs) > 10
    assert [name for name, text in outputs.items() if CANARY in text] == []

"""A lab for the tests: put up once, brought back to its healthy state before every test."""

import os
from collections.abc import Callable, Iterator

import pytest

from tests.lab.harness import Lab, Stage
from tests.lab.rights import VERIFIER, grant


@pytest.fixture(scope="session")
def running_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab of this session: $MESHGATE_LAB if that is named, else one that goes when we go."""
    given = os.environ.get("MESHGATE_LAB")
    if given and "PYTEST_XDIST_WORKER" in os.environ:
        pytest.exit("one lab cannot be shared: make test-lab LABS=0, or without MESHGATE_LAB", 4)
    lab = Lab(given or f"test-{os.getpid()}", tmp_path_factory.mktemp("runs"))
    if given:
        yield lab
        return
    try:
        lab.verb("up")
        yield lab
    finally:
        lab.verb("down")


@pytest.fixture
def lab(running_lab: Lab) -> Lab:
    """A healthy mesh."""
    running_lab.verb("reset")
    return running_lab


@pytest.fixture
def verifier(lab: Lab) -> str:
    """Who a hook Job runs as."""
    grant(lab)
    return VERIFIER


@pytest.fixture
def controlplane(lab: Lab) -> Callable[..., Stage]:
    """Runs stage B on the lab; what is transient gets 20 s unless the test says otherwise."""

    def run(*words: str, identity: str | None = None) -> Stage:
        settle = [] if any(word.startswith("--settle") for word in words) else ["--settle=20"]
        return lab.pytest("-m", "controlplane", *settle, *words, identity=identity)

    return run


@pytest.fixture
def healed(lab: Lab, controlplane: Callable[..., Stage]) -> Iterator[None]:
    """After the test: the fault is taken out, and the same stage passes."""
    yield
    lab.verb("reset")
    stage = controlplane()
    assert stage.exit == 0, stage.output

"""A lab for the tests: put up once, brought back to its healthy state before every test."""

from collections.abc import Callable, Iterator

import pytest

from tests.lab.harness import NEW, OLD, Lab, Stage, lab_of
from tests.lab.rights import VERIFIER, grant


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker of the tests that only `make test-lab-all` runs."""
    config.addinivalue_line("markers", "every_release: only `make test-lab-all` runs it")


@pytest.fixture(scope="session")
def running_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The lab of this session: $MESHGATE_LAB if that is named, else one that goes when we go."""
    with lab_of(NEW, tmp_path_factory.mktemp("runs"), named="MESHGATE_LAB") as lab:
        yield lab


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A healthy mesh that is about to be upgraded: $MESHGATE_LAB_OLD, or one for this module."""
    with lab_of(OLD, tmp_path_factory.mktemp("old"), named="MESHGATE_LAB_OLD") as lab:
        lab.verb("reset")
        yield lab


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
def recovers(lab: Lab, controlplane: Callable[..., Stage]) -> Iterator[None]:
    """After the test: remove the fault; the same stage passes."""
    yield
    lab.verb("reset")
    stage = controlplane()
    assert stage.exit == 0, stage.output

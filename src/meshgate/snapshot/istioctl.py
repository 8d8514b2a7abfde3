"""What istioctl said."""

from meshgate.snapshot.base import Base


class AnalysisMessage(Base, frozen=True):
    """One message of `istioctl analyze` or `x precheck`; level is Info, Warning or Error."""

    code: str
    level: str
    message: str
    origin: str = ""
    documentation_url: str = ""


class Analysis(Base, frozen=True):
    """A run of `analyze` or `x precheck`: istioctl's version, messages, and refused requests."""

    istioctl_version: str
    messages: tuple[AnalysisMessage, ...] = ()
    refused: tuple[str, ...] = ()

"""What `istioctl analyze` says, as findings."""

from collections import defaultdict

from meshgate.facts.evidence import Evidence
from meshgate.snapshot.istioctl import AnalysisMessage
from meshgate.verdict import CouldNotVerify, Finding

# The façade answers Secrets with an empty list: these say no more than that.
FROM_NO_SECRETS = (
    ("IST0101", "Referenced credentialName not found"),
    ("IST0126", "Unknown service registry"),  # of other clusters, which Secrets name
)

# The levels that may close the gate, the worst first.
LEVELS = ("Error", "Warning")


class AnalyzeMessages:
    """The messages of one analysis that could look at everything but Secrets."""

    def __init__(self, evidence: Evidence) -> None:
        self._evidence = evidence

    @property
    def _messages(self) -> tuple[AnalysisMessage, ...]:
        analysis = self._evidence.analysis
        if analysis.refused:
            raise CouldNotVerify(
                f"istioctl analyze was refused {len(analysis.refused)} reads, "
                f"the first was {analysis.refused[0]}",
                "it analyzed less than the whole mesh; please report this istioctl version: "
                f"{analysis.istioctl_version}",
            )
        return tuple(message for message in analysis.messages if not _from_no_secrets(message))

    @property
    def left_out(self) -> str:
        """What was left out, in words; empty where nothing was."""
        said = self._evidence.analysis.messages
        codes = sorted({message.code for message in said if _from_no_secrets(message)})
        count = sum(map(_from_no_secrets, said))
        return (
            f"{count} findings of istioctl analyze ({', '.join(codes)}) were left out: they only "
            "say that it was shown no Secret"
            if count
            else ""
        )

    @property
    def errors(self) -> list[Finding]:
        """What analyze says from the threshold on, an object each."""
        fatal = LEVELS[: LEVELS.index(self._evidence.expectations.failure_threshold) + 1]
        return [
            Finding(
                message.origin or "the mesh",
                f"{message.code} {message.message}",
                f"no {message.level.lower()}",
                f"see {_page(message)}",
            )
            for message in self._messages
            if message.level in fatal
        ]

    @property
    def warnings(self) -> list[Finding]:
        """Warnings, by code, where they close no gate: nobody should miss them."""
        if self._evidence.expectations.failure_threshold == "Warning":
            return []
        by_code: defaultdict[str, list[AnalysisMessage]] = defaultdict(list)
        for message in self._messages:
            if message.level == "Warning":
                by_code[message.code].append(message)
        return [
            Finding(
                messages[0].origin or "the mesh",
                f"{code} {messages[0].message}" + _others(len(messages) - 1, code),
                remedy=f"see {_page(messages[0])}",
            )
            for code, messages in sorted(by_code.items())
        ]


def _from_no_secrets(message: AnalysisMessage) -> bool:
    return any(
        message.code == code and message.message.startswith(words)
        for code, words in FROM_NO_SECRETS
    )


def _others(count: int, code: str) -> str:
    return f" ({count} more {code}: `istioctl analyze -A` lists them)" if count else ""


def _page(message: AnalysisMessage) -> str:
    return message.documentation_url.partition("?")[0]

"""Sign verdicts, and prove them again: attest, and what `replay --verify` does."""

import hashlib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

from meshgate.cli.options import app, errors, say, show
from meshgate.cli.pytest_command import NoVerdict, judge
from meshgate.pipeline.signing import Unverified, sign, verified
from meshgate.report.attestation import Subject, of_fleet, of_run, results, verdict_digest
from meshgate.report.fleet import FleetReport
from meshgate.report.json import Report, read
from meshgate.settings import flag
from meshgate.verdict import Gate


@app.command()
def attest(
    report: Annotated[Path, typer.Argument(metavar="VERDICT.json|FLEET.json")],
    *,
    output: Annotated[Path, typer.Option(help="file for the attestation")],
    key: Annotated[
        Path | None,
        typer.Option(
            help="private key (PEM, PKCS 8, without a password); without it, the statement is "
            "written unsigned, for `cosign attest-blob --statement`"
        ),
    ] = None,
    snapshot: Annotated[
        Path | None, typer.Option(help="the snapshot that the verdict is about")
    ] = None,
) -> None:
    """Sign a verdict as an in-toto test-result attestation (DSSE), which cosign verifies.

    Its subjects are the snapshot of the run, or the recordings of the fleet, by their SHA-256.
    """
    with errors("attest"):
        statement = _statement(report, snapshot)
        output.write_bytes(sign(statement, key) if key else msgspec.json.encode(statement))
    done = "signed" if key else "wrote without a signature:"
    say(f"{done} {statement['predicate']['result']} in {output}")


def _statement(file: Path, snapshot: Path | None) -> dict[str, Any]:
    if snapshot is None:
        try:
            return of_fleet(msgspec.json.decode(file.read_bytes(), type=FleetReport))
        except msgspec.ValidationError as error:
            raise ValueError(
                f"{flag('run.snapshot')} is required for the verdict of one run ({error})"
            ) from error
    return of_run(read(file), Subject(snapshot.name, _sha256(snapshot)))


def _sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def verify_replay(file: Path, expected: Path, key: Path | None, words: list[str]) -> None:
    """Replay a snapshot, and exit with 0 only if its verdict is the expected one.

    Args:
        file: the snapshot.
        expected: the verdict.json of the earlier run, or its signed attestation.
        key: the public key of the attestation.
        words: more options of pytest.
    """
    with errors("verify the replay"):
        before = None
        if key:
            digest, checks = _attested(file, expected, key)
        else:
            before = read(expected)
            digest, checks = verdict_digest(before), [row.id for row in before.checks]
        try:
            now = judge(file, flag("run.only", ",".join(checks)), *words)
        except NoVerdict as error:
            raise ValueError(f"the replay ended early: {str(error)[-500:]}") from error
    found = verdict_digest(now)
    if found == digest:
        show(f"the same verdict: exit {now.exit}, {len(now.checks)} checks, sha256 {found}")
        return
    show(f"another verdict: sha256 {found}, expected {digest}")
    for line in _differences(before, now) if before else ():
        show(line)
    raise typer.Exit(int(Gate.CLOSED))


def _attested(file: Path, envelope: Path, key: Path) -> tuple[str, list[str]]:
    """Return the digest of the verdict and the checks that an attestation names.

    Args:
        file: the snapshot.
        envelope: the signed attestation.
        key: the public key.

    Raises:
        ValueError: the attestation is not valid, or about another file.
    """
    try:
        statement = verified(envelope.read_bytes(), key)
        subjects = {each["digest"]["sha256"] for each in statement["subject"]}
        (verdict,) = statement["predicate"]["configuration"]
        checks = [str(each) for each in verdict["annotations"]["selected"]]
        digest = str(verdict["digest"]["sha256"])
    except (Unverified, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the attestation {envelope} cannot be used: {error}") from error
    if _sha256(file) not in subjects:
        raise ValueError(f"the attestation {envelope} is not about {file}: other bytes")
    return digest, checks


def _differences(before: Report, now: Report) -> list[str]:
    was = {row.id: row for row in before.checks}
    return [
        f"{row.id}: {was[row.id].verdict if row.id in was else 'not run'} before, {row.verdict} now"
        for row in now.checks
        if was.get(row.id) != row
    ] or [f"the checks agree: {results(now).result}"]

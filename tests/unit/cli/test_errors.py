"""The error of wrong usage: it contains no credential and no control character."""

import pytest

from meshgate.cli import app

TOKEN = "c4n4ryC4n4ryC4n4ry"


@pytest.mark.parametrize(
    "words",
    [
        ("capture", "file", f"--window=https://user:{TOKEN}@example.test"),
        ("capture", "file", f"--stage=ghp_{TOKEN}"),
        ("comment", "file", f"--number=ghp_{TOKEN}"),
        ("fleet", "file", f"--max-age=ghp_{TOKEN}\x1b[2J"),
        ("verify", f"--stage=ghp_{TOKEN}"),
        (f"https://user:{TOKEN}@example.test",),
        (f"--unknown=ghp_{TOKEN}",),
    ],
    ids=["number", "choice", "integer", "age", "stage", "command", "option"],
)
def test_wrong_usage_shows_no_credential(
    words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        app(list(words))

    shown = capsys.readouterr()
    assert ended.value.code == 4, shown.err
    assert TOKEN not in shown.out + shown.err
    assert "\x1b" not in shown.err

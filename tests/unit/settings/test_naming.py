"""Messages and texts name an option by its setting."""

import pytest

from meshgate.settings import flag, with_flags


def test_a_message_names_an_option_by_its_setting() -> None:
    assert flag("run.settle") == "--settle"
    assert flag("run.settle", 0) == "--settle=0"
    assert flag("run.dry_run") == "--dry-run"
    with pytest.raises(KeyError):
        flag("run.no_such_setting")


def test_a_text_names_an_option_by_its_setting() -> None:
    text = "pass {run.only=CP001} or {run.skip}; {other.words} and {} stay"

    assert with_flags(text) == "pass --check=CP001 or --skip; {other.words} and {} stay"

"""Each setting has one definition; the command line counts before the file."""

from pathlib import Path

import pytest

from meshgate.settings import (
    TOPICS,
    Settings,
    SettingsError,
    definitions,
    named,
    read_file,
    reference_page,
    resolve,
)

ALL = [each for topic in TOPICS.values() for each in definitions(topic)]


def written(folder: Path, text: str) -> Path:
    """A settings file."""
    file = folder / "meshgate.toml"
    file.write_text(text)
    return file


def test_no_option_is_defined_twice() -> None:
    names = [name for each in ALL for name in (each.flag, *each.aliases)]

    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("setting", ALL, ids=lambda each: each.key)
def test_every_setting_says_what_it_is_and_what_it_takes(setting: object) -> None:
    (found,) = [each for each in ALL if each is setting]

    assert found.flag.startswith("--")
    assert found.help
    assert not found.help.endswith(".")
    assert found.switch or found.metavar or found.choices


@pytest.mark.parametrize("setting", ALL, ids=lambda each: each.key)
def test_the_reference_page_has_every_setting(setting: object) -> None:
    (found,) = [each for each in ALL if each is setting]

    assert f"| `{found.flag}` |" in reference_page.page()


def test_without_anything_given_there_are_the_defaults() -> None:
    assert resolve({}) == Settings()


def test_the_command_line_counts_before_the_file(tmp_path: Path) -> None:
    file = read_file(
        written(
            tmp_path, '[run]\nsettle = 7\nbaseline = "kept"\n[probes]\nexclude-port = ["*:9090"]'
        )
    )

    found = resolve({"run": {"settle": 3.0, "baseline": None}}, file)

    assert (found.run.settle, found.run.baseline) == (3.0, "kept")
    assert found.probes.exclude_port == ("*/*:9090",)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[run", "cannot read the settings"),
        ("[runs]\nsettle = 1", "[runs] is not one of"),
        ("[run]\nsettel = 1", "has no setting 'settel'"),
        ('[run]\nsettle = "soon"', "'soon' is not a number of seconds"),
        ("[run]\ndry-run = 1", "dry-run must be true or false"),
        ('[run]\nbaseline = ["a", "b"]', "baseline takes one value"),
        ('[criteria]\nrequire-mtls = "some"', "'some' is not one of strict"),
        ('[criteria]\ntarget-version = "banana"', "'banana' is not a version"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as raised:
        read_file(written(tmp_path, text))

    assert reason in str(raised.value)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read the settings"):
        read_file(tmp_path / "missing.toml")


@pytest.mark.parametrize(
    "given",
    [
        {"run": {"snapshot": "a"}, "access": {"context": "prod"}},
        {"run": {"snapshot": "a", "dry_run": True}},
        {"run": {"snapshot": "a", "save_baseline": "b"}},
        {"simulation": {"istiod": "./pilot-discovery"}},
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    given: dict[str, dict[str, object]],
) -> None:
    with pytest.raises(SettingsError):
        resolve(given)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("run.settle", "-1"),
        ("run.settle", "inf"),
        ("run.settle", "nan"),
        ("probes.sample", "-1"),
        ("probes.sample", "²"),
        ("probes.shard", "4/4"),
        ("traffic.labels", "cluster"),
        ("traffic.labels", "k8s-cluster=prod"),
        ("traffic.labels", "cluster="),
        ("probes.exclude_port", "shop/web"),
        ("probes.probe_call", "https://web.shop/"),
        ("probes.retry_after_target", "ftp://api.example.com/"),
    ],
)
def test_a_value_that_is_not_allowed_is_refused(name: str, text: str) -> None:
    with pytest.raises(ValueError, match=r"is not|has no"):
        named()[name].value(text)

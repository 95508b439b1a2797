"""Named contexts: their fields, which one is in use, and their file."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lightbus.cli.support.contexts import (
    Contexts,
    complete_contexts,
    context_file,
    environment,
    load_contexts,
    save_contexts,
)
from lightbus.exceptions import InvalidConfiguration, UnsupportedUse

OFFICE = {"bus_name": "shop", "key_file": "/k", "peers": "192.0.2.7:5880"}


def environ(tmp_path: Path, **more: str) -> dict[str, str]:
    """Return an environment whose settings are in this test's directory."""
    return {"XDG_CONFIG_HOME": str(tmp_path), "OTHER": "1", **more}


@pytest.fixture
def saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Store two contexts, of which one is in use; return the directory of settings."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    save_contexts(Contexts(said={"office": OFFICE, "home": {"bus_name": "mine"}}, current="home"))
    return tmp_path


def test_saved_contexts_are_private(saved: Path) -> None:
    """They are readable for this user alone, and no temporary file remains."""
    assert load_contexts() == Contexts(said={"office": OFFICE, "home": {"bus_name": "mine"}}, current="home")
    assert [path.name for path in (saved / "lightbus").iterdir()] == ["contexts.json"]
    assert context_file().stat().st_mode & 0o077 == 0


def test_the_one_that_is_named_wins(saved: Path) -> None:
    """Over the environment, its key included; named by an option, or for the whole shell."""
    given = environ(saved, LIGHTBUS_BUS="env", LIGHTBUS_BUS_KEY="lb1", LIGHTBUS_SECURITY="host")
    expected = environ(
        saved,
        LIGHTBUS_BUS="shop",
        LIGHTBUS_BUS_KEY_FILE="/k",
        LIGHTBUS_PEERS="192.0.2.7:5880",
        LIGHTBUS_SECURITY="host",
    )
    assert environment("office", given) == (expected, "office")
    chosen = {**given, "LIGHTBUS_CONTEXT": "office"}
    assert environment(None, chosen) == ({**expected, "LIGHTBUS_CONTEXT": "office"}, "office")
    assert environment("home", chosen)[1] == "home"


def test_the_context_in_use_gives_unset_variables(saved: Path) -> None:
    """A variable that is set takes precedence, an empty one does not."""
    assert environment(None, environ(saved)) == (environ(saved, LIGHTBUS_BUS="mine"), "home")
    for given, expected in (("env", "env"), ("", "mine")):
        assert environment(None, environ(saved, LIGHTBUS_BUS=given))[0]["LIGHTBUS_BUS"] == expected


def test_without_a_file_or_home_nothing_changes(tmp_path: Path) -> None:
    """Without a file, or a home, everything is as it is."""
    assert environment(None, environ(tmp_path)) == (environ(tmp_path), "")
    assert environment(None, {"OTHER": "1"}) == ({"OTHER": "1"}, "")
    with pytest.raises(UnsupportedUse, match="has no home to keep contexts in"):
        environment("office", {})


def test_one_there_is_not(saved: Path) -> None:
    """The error lists the existing ones."""
    with pytest.raises(InvalidConfiguration, match=r"no context 'ofice'.*'office'\? There are: home, office\."):
        environment("ofice", environ(saved))


@pytest.mark.parametrize(
    "text", ["", "[]", "[" * 100_000, "{}", '{"said": {"a": 1}, "current": ""}', '{"said": 1, "current": ""}']
)
def test_a_file_that_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """It is named, with what to do; completion is silent."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    save_contexts(Contexts())
    context_file().write_text(text)
    with pytest.raises(InvalidConfiguration, match=r"contexts\.json cannot be read .* Repair the file, or remove it"):
        load_contexts()
    assert complete_contexts(*cast(tuple[Any, Any], (None, None)), "") == []


def test_a_place_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named."""
    (tmp_path / "lightbus").write_text("a file")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(UnsupportedUse, match="were not written to"):
        save_contexts(Contexts())


def test_names_are_completed(saved: Path) -> None:
    """Names with this beginning."""
    nothing = cast(Any, SimpleNamespace())
    assert [item.value for item in complete_contexts(nothing, nothing, "o")] == ["office"]

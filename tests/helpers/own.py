"""External implementations of a port: with `--own` its contract tests that one instead of the built-in ones."""

from __future__ import annotations

import json
from importlib import import_module
from typing import Any

import pytest

__all__ = ["OPTION", "examine", "made_by", "settings_of"]

OPTION = "--own"


def examine(metafunc: pytest.Metafunc, fixture: str, built_in: list[str]) -> None:
    """Parametrize a fixture with implementations as `request.param`: the built-in ones, or the given one."""
    if fixture in metafunc.fixturenames:
        own = metafunc.config.getoption(OPTION)
        if own:
            metafunc.parametrize(fixture, [own], ids=["own"], indirect=True)
        else:
            metafunc.parametrize(fixture, built_in, indirect=True)


def made_by(name: str) -> Any:
    """Return the object `package.module:name`. Raises UsageError, which gives the reason."""
    module, _, attributes = name.partition(":")
    if not module or not attributes:
        raise pytest.UsageError(f"{OPTION} {name}: must be package.module:name, of what create() is given")
    try:
        found: Any = import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except (ImportError, AttributeError) as error:
        raise pytest.UsageError(f"{OPTION} {name} cannot be used: {error}") from error
    return found


def settings_of(text: str) -> dict[str, Any]:
    """Return the settings `apis.<name>.events`, from the name of an entry point, or the settings as JSON."""
    if not text.startswith("{"):
        return {"backend": text}
    try:
        settings: dict[str, Any] = json.loads(text)
    except ValueError as error:
        raise pytest.UsageError(f"{OPTION} {text} is no JSON: {error}") from error
    return settings

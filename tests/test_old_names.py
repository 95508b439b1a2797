"""Exceptions of Lightbus 1.x that have another name here, or none."""

from __future__ import annotations

import importlib

import pytest

import lightbus
from lightbus import exceptions
from lightbus.old_names import GONE, GONE_MODULES, RENAMED, name_today


@pytest.mark.parametrize("name", RENAMED)
def test_a_renamed_exception_is_the_one_that_is_raised_today(name: str) -> None:
    """The old name of an exception is an alias of the class that is raised now."""
    assert getattr(exceptions, name) is getattr(lightbus, name) is getattr(exceptions, RENAMED[name])


@pytest.mark.parametrize("module", ["lightbus", "lightbus.exceptions"])
@pytest.mark.parametrize("name", GONE)
def test_an_exception_that_is_gone_says_what_to_know_instead(name: str, module: str) -> None:
    """The import fails with a sentence, and not with "cannot import name" alone."""
    with pytest.raises(ImportError, match=f"no exception {name} any more. .+ Remove it"):
        exec(f"from {module} import {name}", {})


def test_a_name_that_never_was() -> None:
    """It is missing as from any module."""
    assert not hasattr(importlib.import_module("lightbus.exceptions"), "NoSuchError")
    assert not hasattr(lightbus, "NoSuchError")
    with pytest.raises(AttributeError, match="NoSuchError"):
        name_today("NoSuchError")


@pytest.mark.parametrize("module", [*GONE_MODULES, "lightbus.transports.redis.event"])
def test_a_removed_module_names_its_replacement(module: str) -> None:
    """Importing it raises ModuleNotFoundError, with the replacement in the message."""
    with pytest.raises(ModuleNotFoundError, match=r"There is no lightbus\.[a-z.]+ any more\. [A-Z].+\.$") as caught:
        importlib.import_module(module)
    assert caught.value.name is not None
    assert module.startswith(caught.value.name)


def test_a_module_that_never_was() -> None:
    """It is not found, as any."""
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'lightbus\.no_such_module'"):
        importlib.import_module("lightbus.no_such_module")

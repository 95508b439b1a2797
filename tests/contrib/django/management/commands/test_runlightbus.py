from __future__ import annotations

import sys
from typing import Any

import pytest
from django.core.management import call_command
from django.test import override_settings

import lightbus.contrib.django.management.commands.runlightbus as module
from lightbus.contrib.django.management.commands.runlightbus import Command


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Replace `lightbus` by a function that records its arguments."""
    told: list[Any] = []
    monkeypatch.setattr(module, "main", lambda **given: told.append((given["args"], given["obj"].command)))
    return told


@override_settings(LIGHTBUS_MODULE="shop.bus")
def test_options_are_parted(run: list[Any]) -> None:
    """Django has its own, also for the processes that are started by this one; all others go to `lightbus run`."""
    Command().run_from_argv(
        ["manage.py", "runlightbus", "--workers", "2", "--settings=a.b", "--pythonpath", "x", "--skip", "tasks"]
    )
    assert run == [
        (
            ["run", "--workers", "2", "--skip", "tasks", "--bus", "shop.bus"],
            (sys.executable, "manage.py", "runlightbus", "--settings=a.b", "--pythonpath", "x"),
        )
    ]


@override_settings(LIGHTBUS_MODULE="shop.bus")
def test_bus_that_is_named(run: list[Any]) -> None:
    """The command line wins over the setting."""
    Command().run_from_argv(["manage.py", "runlightbus", "--bus=other.bus"])
    assert run[0][0] == ["run", "--bus=other.bus"]


def test_called_by_a_program(run: list[Any]) -> None:
    """Without the setting `lightbus run` finds the module as usual."""
    call_command("runlightbus")
    assert run[0][0] == ["run"]

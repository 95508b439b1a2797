"""The types for type checkers match the real paths, with the same parameters."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

from lightbus import create, typed
from lightbus.client import options
from lightbus.path import BusPath

CLASSES = [typed.TypedBus, typed.TypedPath, typed.TypedProcedure, typed.TypedEvent]


@pytest.mark.parametrize("declared", CLASSES)
def test_a_path_has_all_that_is_declared(declared: type) -> None:
    """Paths have all declared methods, with the same parameter names and defaults."""
    for name in dir(declared):
        if name.startswith("_"):
            continue
        said, there = getattr(declared, name), getattr(BusPath, name, None) or getattr(BusPath, name)
        assert isinstance(said, property) == isinstance(there, property), name
        if not isinstance(said, property):
            assert inspect.iscoroutinefunction(said) == inspect.iscoroutinefunction(there), name
            if name != "listen":
                assert parameters(said) == parameters(there), name


def test_listen_has_the_same_options() -> None:
    """Its overloads together have what the path's own has."""
    from typing import get_overloads

    told = [parameters(each) for each in get_overloads(typed.TypedEvent.listen)]
    there = parameters(inspect.unwrap(BusPath.listen))
    assert {**told[0], **told[1], "batch": None} == there


@pytest.mark.parametrize(
    ("declared", "known"),
    [
        (typed.CallOptions, options.CALL_OPTIONS),
        (typed.FireOptions, options.FIRE_OPTIONS),
        (typed.ListenOptions, options.LISTEN_OPTIONS),
    ],
)
def test_bus_options_are_those_checked_at_run_time(declared: Any, known: tuple[str, ...]) -> None:
    """`bus_options` has the options that are checked at run time."""
    assert {*declared.__annotations__} == {*known}


def test_a_bus_is_no_instance() -> None:
    """They are for type checkers alone."""
    assert not isinstance(create(service_name="shop"), typed.TypedBus)


def parameters(function: Any) -> dict[str, Any]:
    found = inspect.signature(function).parameters.values()
    return {each.name: each.default for each in found if each.name != "self"}

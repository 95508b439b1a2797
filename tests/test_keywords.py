"""Keyword arguments that a function does not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import lightbus
from lightbus import (
    BusPath,
    InvalidApiEventConfiguration,
    InvalidConfiguration,
    InvalidDeclaration,
    InvalidEventListener,
    InvalidSchedule,
)
from lightbus.keywords import also_named, unknown_keywords_raise


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda bus: bus.auth.seen.listen(print, concurency=2),
            InvalidEventListener,
            r"^BusPath\.listen\(\) has no argument 'concurency'\. Did you mean 'concurrency'\? It has: listener, ",
        ),
        (
            lambda bus: bus.auth.seen.listen(print, options={}),
            InvalidEventListener,
            "'options'. Did you mean 'bus_options'",
        ),
        (lambda bus: bus.client.listen_for_event("auth", "seen", print, on_eror=1), InvalidEventListener, "'on_error'"),
        (lambda bus: bus.client.listen_for_events([], print, grup="x"), InvalidEventListener, "mean 'group'"),
        (lambda bus: bus.client.every(second=5), InvalidSchedule, r"BusClient\.every\(\) .* mean 'seconds'"),
        (lambda bus: bus.client.schedule(schedule_jb=1), InvalidSchedule, "mean 'schedule_job'"),
        (lambda bus: bus.client.add_background_task(corotine=1), InvalidDeclaration, "mean 'coroutine'"),
        (lambda bus: lightbus.create(servce_name="x"), InvalidConfiguration, r"create\(\) .* mean 'service_name'"),
        (lambda bus: lightbus.Event(paramters=["a"]), InvalidApiEventConfiguration, r"^Event\(\) .* mean 'parameters'"),
        (
            lambda bus: lightbus.Event("a", "b"),
            InvalidApiEventConfiguration,
            "by position, but takes .* by name: .*key=",
        ),
        (
            lambda bus: bus.client.every(print),
            InvalidSchedule,
            "by position, but takes its further arguments by name: sec",
        ),
        (lambda bus: bus.client.schedule(1, 2, 3), InvalidSchedule, "given 3 by position, which is more than it takes"),
        (lambda bus: lightbus.create(xyz=1), InvalidConfiguration, "no argument 'xyz'. It has: config, config_file,"),
    ],
)
def test_misspelt_arguments_are_refused_with_near_names(
    call: Callable[[Any], Any], error: type[Exception], text: str
) -> None:
    """A misspelt argument of a setup function is refused with similar names."""
    bus = lightbus.create(service_name="auth")
    with pytest.raises(error, match=text):
        call(bus)
    assert bus.client.listeners == []


def test_wrapped_function_keeps_its_behaviour() -> None:
    """Arguments, result and metadata of the function are unchanged."""

    @unknown_keywords_raise(InvalidSchedule)
    def function(one: int, *, other: int = 2) -> int:
        """Add."""
        return one + other

    assert (function(1), function(one=1, other=3), function.__name__, function.__doc__) == (3, 4, "function", "Add.")
    with pytest.raises(InvalidSchedule, match="It has: one, other"):
        function(1, local=2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        function()  # type: ignore[call-arg]


def test_create_finds_its_caller(tmp_path: Path) -> None:
    """The default name of the service is that of the caller's directory."""
    made: dict[str, Any] = {"__file__": str(tmp_path / "shop" / "bus.py"), "__name__": "bus"}
    exec("import lightbus; bus = lightbus.create()", made)
    bus: BusPath = made["bus"]
    assert bus.client.config.default_name is not None
    assert bus.client.config.default_name.name == "shop"


def test_an_argument_under_another_name() -> None:
    """It is the same argument, and may be given once."""

    @also_named(full_name="name")
    def greet(name: str, *, times: int = 1) -> str:
        return name * times

    assert greet("a", times=2) == greet(full_name="a", times=2) == "aa"  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="name and full_name, which are the same"):
        greet(name="a", full_name="b")  # type: ignore[call-arg]

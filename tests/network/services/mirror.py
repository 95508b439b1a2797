"""A worker that takes and returns values of every type; `helpers` has to be on its path."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import lightbus
from helpers.values import VALUES

bus = lightbus.create(service_name="mirror")
heard: list[int] = []


def procedure(index: int, annotation: Any, expected: Any) -> Callable[..., Any]:
    """Return a method that takes a value of this type and returns it."""

    def echo(self: Any, value: Any) -> Any:
        if value != expected:
            raise ValueError(f"{index}: {value!r} arrived, and not {expected!r}")
        return value

    echo.__annotations__ = {"value": annotation, "return": annotation}
    return echo


def listener(index: int, annotation: Any, expected: Any) -> Callable[..., None]:
    """Return a listener that records whether it gets the value that was sent."""

    def listen(event: lightbus.EventMessage, value: Any) -> None:
        if value == expected:
            heard.append(index)

    listen.__annotations__ = {"value": annotation}
    return listen


def members() -> dict[str, Any]:
    """Return a procedure and an event for each type."""
    made: dict[str, Any] = {"heard": lambda self: sorted({*heard})}
    for index, (annotation, value) in enumerate(VALUES):
        made[f"echo_{index}"] = procedure(index, annotation, value)
        made[f"seen_{index}"] = lightbus.Event([lightbus.Parameter("value", annotation)])
    return made


MirrorApi = type("MirrorApi", (lightbus.Api,), {"Meta": type("Meta", (), {"name": "mirror"}), **members()})
bus.client.register_api(MirrorApi())
for number, (kind, sent) in enumerate(VALUES):
    getattr(bus.mirror, f"seen_{number}").listen(listener(number, kind, sent), listener_name=f"listener_{number}")

"""The classes that are written: one for each part of a path."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus.cli.schemas.classes import bus_classes


def members(*, rpcs: dict[str, Any] | None = None, events: dict[str, Any] | None = None) -> Any:
    """Return a schema of procedures and events with these properties as parameters, none of them needed."""
    return {
        kind: {name: {"parameters": {"type": "object", "properties": properties, "additionalProperties": False}}
               for name, properties in (given or {}).items()}
        for kind, given in (("rpcs", rpcs), ("events", events))
    }  # fmt: skip


def text_of(**schemas: Any) -> str:
    return "\n".join(bus_classes({name.replace("__", "."): each for name, each in schemas.items()})[1])


def test_what_leads_on() -> None:
    """An API may be what another one's name begins with, and a procedure too."""
    text = text_of(shop=members(rpcs={"orders": {}}), shop__orders=members(rpcs={"count": {}}))
    assert "class ShopOrders(TypedProcedure):" in text
    assert "    count: ShopOrdersCount" in text
    assert "    orders: ShopOrders\n" in text
    assert text.endswith("    shop: Shop")


def test_names_that_meet() -> None:
    """Two paths that would give one class name get different names, as do paths with a name the file uses already."""
    text = text_of(a_b=members(rpcs={"c": {}}), a=members(rpcs={"b_c": {}}), typed__bus=members(rpcs={"f": {}}))
    classes = [line for line in text.splitlines() if line.startswith("class ")]
    assert len(classes) == len(set(classes))
    assert "class TypedBus_(TypedPath):" in classes


@pytest.mark.parametrize(
    ("properties", "parameters"),
    [
        ({}, "self, *, bus_options: CallOptions | None = None"),
        ({"n": {"type": "integer", "default": 3}}, "self, *, n: int = 3, bus_options: CallOptions | None = None"),
        ({"n": {"type": "integer", "default": None}}, "self, *, n: int = ..., bus_options: CallOptions | None = None"),
        ({"n": {"type": "string", "format": "date", "default": "2026-01-01"}}, "self, *, n: _dt.date = ..., bus_opt"),
        ({"s": {"default": "a"}}, 'self, *, s: Any = "a", bus_options: CallOptions | None = None'),
        ({"class": {}, "n": {}}, "self, *, bus_options: CallOptions | None = None, **kwargs: Any"),
    ],
)
def test_parameters_are_written_by_name_with_defaults(properties: dict[str, Any], parameters: str) -> None:
    """Keyword-only, with defaults of the right type; none if a name is not valid in Python."""
    assert f"def __call__({parameters}" in text_of(auth=members(rpcs={"f": properties}))


def test_names_without_a_path() -> None:
    """An API with a hyphen in its name, or a keyword, is no attribute of the bus."""
    classes = bus_classes({"my-api": members(rpcs={"f": {}}), "class": members(rpcs={"f": {}})})[1]
    assert "\n".join(classes).split() == ["class", "Bus(TypedBus):", '"""What', "is", "on", "the", 'bus."""']


def test_an_event_of_any_arguments() -> None:
    """Its dict has any keys."""
    whole = {"rpcs": {}, "events": {"seen": {"parameters": {}}, "none": {"parameters": True}}}
    assert "AuthSeenArguments: TypeAlias = Mapping[str, Any]" in text_of(auth=whole)

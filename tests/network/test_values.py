"""Values of every type that can be declared, sent over a bus: as argument, result and event, sync and async."""

from __future__ import annotations

import collections
import dataclasses
import importlib
import ipaddress
import itertools
from collections.abc import Callable, Collection, Container, Iterable, Iterator, Reversible
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, LiteralString, NamedTuple, Optional, TypeAlias
from uuid import UUID

import pydantic
import pytest
import typing_extensions
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lightbus
from helpers import Door, Processes, scaled, wait_until
from helpers.values import VALUES, Access, Box, Colour, Level, Mode, Name, Odd, Place, Row, Steps, Typed
from lightbus import Api, Event, EventMessage, Parameter
from lightbus.testing import MemoryBus, memory_bus

Drawn: TypeAlias = tuple[Any, st.SearchStrategy[Any]]
"""An annotation, and what draws its values."""

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
ZONES = st.none() | st.integers(-839, 839).map(lambda minutes: timezone(timedelta(minutes=minutes)))
NUMBERS = st.decimals(allow_nan=False, allow_infinity=False)

SCALARS: tuple[Drawn, ...] = (
    (int, st.integers(-(2**200), 2**200)),
    (bool, st.booleans()),
    (str, TEXT),
    (float, st.floats(allow_nan=False)),
    (bytes, st.binary(max_size=8)),
    *((kind, st.sampled_from(list(kind))) for kind in (Colour, Level)),
    (Access, st.integers(0, 3).map(Access)),
    (Mode, st.sampled_from([*Mode, Mode.FAST | Mode.SAFE])),
    *((kind, st.from_type(kind)) for kind in (ipaddress.IPv4Address, ipaddress.IPv6Address)),
    (Path, st.sampled_from(["/", "a", "a/ö", ".."]).map(Path)),
    *((kind, st.from_type(kind)) for kind in (UUID, date)),
    (datetime, st.datetimes(timezones=ZONES)),
    (time, st.times()),
    (timedelta, st.timedeltas()),
    (Decimal, NUMBERS),
    (Annotated[int, pydantic.Field(ge=0, le=9)], st.integers(0, 9)),
)
"""What a key of a dict and an item of a set may be."""

NOT_IN_A_MODEL = (
    *(Iterable[int], Typed, Collection[Place], Container[Place], dict[str, Reversible[Level]]),
    *(Name, list[Row], Steps, LiteralString),
)
"""
What pydantic itself does not take in a model: an iterator, what says nothing of its items, a class made of a builtin
one, and for Python 3.11 `typing.TypedDict`.
"""

OTHERS: tuple[Drawn, ...] = (
    (None, st.none()),
    (complex, st.complex_numbers(allow_nan=False)),
    (Place, st.sampled_from(list(Place))),
    (Odd, st.sampled_from(list(Odd))),
    (pydantic.SecretStr, TEXT.map(pydantic.SecretStr)),
    *((annotation, st.just(value)) for annotation, value in VALUES if annotation not in NOT_IN_A_MODEL),
)

SERVICES = Path(__file__).parent / "services"

names = itertools.count()


def containers(inner: st.SearchStrategy[Drawn]) -> st.SearchStrategy[Drawn]:
    """Draw types that are made of other types."""
    scalar = st.sampled_from(SCALARS)
    return st.one_of(
        inner.map(lambda it: (list[it[0]], st.lists(it[1], max_size=3))),
        inner.map(lambda it: (collections.deque[it[0]], st.lists(it[1], max_size=3).map(collections.deque))),
        inner.map(lambda it: (tuple[it[0], ...], st.lists(it[1], max_size=3).map(tuple))),
        st.tuples(inner, inner).map(lambda its: (tuple[its[0][0], its[1][0]], st.tuples(its[0][1], its[1][1]))),
        scalar.map(lambda it: (set[it[0]], st.sets(it[1], max_size=3))),
        scalar.map(lambda it: (frozenset[it[0]], st.frozensets(it[1], max_size=3))),
        st.tuples(scalar, inner).map(
            lambda its: (dict[its[0][0], its[1][0]], st.dictionaries(its[0][1], its[1][1], max_size=3))
        ),
        inner.map(optional),
        inner.map(lambda it: (Box[it[0]], it[1].map(lambda value: Box[it[0]](held=value)))),
        st.tuples(inner, inner, st.sampled_from(MAKERS)).map(lambda drawn: drawn[2](drawn[0], drawn[1])),
    )


def optional(inner: Drawn) -> Drawn:
    """Return a type that may also be None; a member of an Enum whose value is None cannot be distinguished."""
    annotation, values = inner
    drawn = st.none() | values.filter(lambda value: value is not Odd.NONE)
    return Optional[annotation], drawn  # noqa: UP045 - not all have the operator |


def dataclass_of(left: Drawn, right: Drawn) -> Drawn:
    """Return a dataclass of two fields."""
    made = dataclasses.make_dataclass(f"Drawn{next(names)}", [("left", left[0]), ("right", right[0])])
    return made, st.builds(made, left=left[1], right=right[1])


def named_tuple_of(left: Drawn, right: Drawn) -> Drawn:
    """Return a NamedTuple of two fields."""
    made: Any = NamedTuple(f"Drawn{next(names)}", [("left", left[0]), ("right", right[0])])
    return made, st.builds(made, left=left[1], right=right[1])


def typed_dict_of(left: Drawn, right: Drawn) -> Drawn:
    """Return a TypedDict with a key that may be left out."""
    make: Any = typing_extensions.TypedDict
    made = make(f"Drawn{next(names)}", {"left": left[0], "right": typing_extensions.NotRequired[right[0]]})
    return made, st.fixed_dictionaries({"left": left[1]}, optional={"right": right[1]})


def strict_model_of(left: Drawn, right: Drawn) -> Drawn:
    """Return a strict model whose fields have other names when they are read."""
    make: Any = pydantic.create_model
    made = make(
        f"Drawn{next(names)}",
        __config__=pydantic.ConfigDict(strict=True, extra="forbid"),
        left=(left[0], pydantic.Field(validation_alias=pydantic.AliasChoices("a", "b"), serialization_alias="c")),
        right=(right[0], pydantic.Field(alias="d")),
    )
    return made, st.tuples(left[1], right[1]).map(lambda values: made(a=values[0], d=values[1]))


MAKERS: tuple[Callable[[Drawn, Drawn], Drawn], ...] = (dataclass_of, named_tuple_of, typed_dict_of, strict_model_of)

types = st.recursive(st.sampled_from((*SCALARS, *OTHERS)), containers, max_leaves=4)


@st.composite
def drawn(draw: st.DrawFn) -> tuple[Any, Any]:
    """Draw an annotation and a value of it."""
    annotation, values = draw(types)
    return annotation, draw(values)


class Exam:
    """A worker and a caller, which both register an API for each type."""

    def __init__(self, hub: MemoryBus) -> None:
        self.worker = hub.create(service_name="values")
        self.caller = hub.create()
        hub.start(self.worker)

    def take(self, door: Door, annotation: Any, value: Any) -> tuple[Any, Any, Any]:
        """Return the value as an argument, as a result, and as the argument of a listener."""
        name = f"values{next(names)}"
        arrived: list[Any] = []
        heard: list[Any] = []
        for bus in (self.worker, self.caller):
            bus.client.register_api(_api(name, annotation, arrived))
        listener = _listener(annotation, heard)
        self.worker.client.listen_for_event(name, "seen", listener, listener_name=name, options={"since": "0"})
        result = door.call(getattr(self.caller, name).echo, value=value)
        door.fire(getattr(self.caller, name).seen, value=value)
        wait_until(lambda: heard)
        return arrived.pop(), result, heard.pop()


def _api(name: str, annotation: Any, arrived: list[Any]) -> Api:
    def echo(self: Any, value: Any) -> Any:
        arrived.append(value)
        return value

    echo.__annotations__ = {"value": annotation, "return": annotation}
    meta = type("Meta", (), {"name": name})
    seen = Event([Parameter("value", annotation)])
    made: Api = type("ValuesApi", (Api,), {"Meta": meta, "echo": echo, "seen": seen})()
    return made


def _listener(annotation: Any, heard: list[Any]) -> Callable[..., None]:
    def listener(event: EventMessage, value: Any) -> None:
        heard.append(value)

    listener.__annotations__ = {"value": annotation}
    return listener


@pytest.fixture
def exam() -> Iterator[Exam]:
    """Return a worker and a caller on a bus in memory."""
    with memory_bus() as hub:
        yield Exam(hub)


# The worker's threads draw random numbers of their own, meanwhile.
@pytest.mark.filterwarnings("ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning")
def test_values_of_every_type_arrive_equal(exam: Exam, door: Door) -> None:
    """For any drawn type, however nested: the received value is equal to the sent one."""

    @settings(max_examples=scaled(200, least=20), suppress_health_check=list(HealthCheck))
    @given(drawn())
    def check(pair: tuple[Any, Any]) -> None:
        annotation, value = pair
        assert exam.take(door, annotation, value) == (value, value, value)

    check()


def test_values_of_every_type_survive_another_process(
    processes: Processes, door: Door, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A value of every type goes to a worker and back; the worker sees the sent value, in a call and in an event."""
    monkeypatch.syspath_prepend(SERVICES)
    worker = processes.worker("mirror", cwd=SERVICES, env={"PYTHONPATH": str(SERVICES.parents[1])})
    api = importlib.import_module("mirror").MirrorApi()
    worker.wait_for_line("Ready")
    bus = lightbus.create(service_name="caller")
    bus.client.register_api(api)
    options = {"timeout": 30}  # what is tested are values, not how quick they are
    with bus.client:
        for index, (_, value) in enumerate(VALUES):
            assert door.call(getattr(bus.mirror, f"echo_{index}"), value=value, bus_options=options) == value
            door.fire(getattr(bus.mirror, f"seen_{index}"), value=value, bus_options=options)
        every = list(range(len(VALUES)))
        wait_until(lambda: door.call(bus.mirror.heard, bus_options=options) == every, timeout=20)

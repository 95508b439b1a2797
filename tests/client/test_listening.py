"""Declaring listeners: names, groups, starting points, and refused arguments."""

from __future__ import annotations

import functools
import re
from datetime import UTC, datetime
from typing import Any

import pytest

import lightbus
from helpers import wait_until
from lightbus import (
    BusPath,
    DuplicateListenerName,
    EventMessage,
    EventNotFound,
    InvalidEventListener,
    InvalidParameters,
    NothingToListenFor,
    OnError,
)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"group": ""}, "group of the listener here is ''"),
        ({"group": 7}, "group of the listener here is 7"),
        ({"concurrency": 0}, "concurrency of the listener here is 0. It is a whole number above 0"),
        ({"concurrency": True}, "concurrency of the listener here is True"),
        ({"max_deliveries": 1.5}, "max_deliveries of the listener here is 1.5"),
        ({"batch": 0}, "batch of the listener here is 0. It is a whole number above 0"),
        ({"batch": 1001}, "batch of the listener here is 1001. It is 1000 at most"),
        ({"batch": 10, "batch_wait": -1}, "batch_wait of the listener here is -1. It is a number of seconds, up to 60"),
        ({"batch": 10, "batch_wait": "1 s"}, "batch_wait of the listener here is '1 s'"),
        (
            {"bus_options": {"since": "no-such-id"}},
            "since of the listener here is 'no-such-id'. It is the id",
        ),
        ({"bus_options": {"since": "2026-13-01"}}, "since of the listener here is '2026-13-01'"),
        ({"bus_options": {"since": ""}}, "since of the listener here is ''"),
        ({"bus_options": {"since": datetime.min}}, "since of the listener here is datetime.datetime(1, 1, 1"),
        ({"bus_options": {"since": "9999-12-31 23:59"}}, "since of the listener here is '9999-12-31 23:59'"),
        ({"group": "a\nb"}, "the group of a listener, 'a\\nb', is not printable"),
        ({"group": "g" * 513}, "is 513 characters long; 512 is the most"),
        ({"group": "{service_name}" * 9}, "is 567 characters long; 512 is the most"),
        ({"bus_options": {"since": 7}}, "since of the listener here is 7. It is the id of an event, a datetime"),
    ],
)
def test_invalid_listener_options_are_refused(bus: BusPath, options: dict[str, Any], problem: str) -> None:
    """Invalid options are refused at the declaration, with the valid ones."""
    with pytest.raises(InvalidEventListener, match=re.escape(problem)):
        bus.auth.user_registered.listen(lambda username: None, listener_name="here", **options)


@pytest.mark.parametrize(
    ("since", "taken"),
    [
        ("0", "0"),
        ("$", "$"),
        (f"{7:016x}-12", f"{7:016x}-12"),
        ("2026-01-31 12:00+00:00", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        (datetime(2026, 1, 31, tzinfo=UTC), datetime(2026, 1, 31, tzinfo=UTC)),
        (None, None),
    ],
)
def test_where_a_listener_begins(bus: BusPath, since: Any, taken: Any) -> None:
    """An event's id, a time, also as text, "0" and "$" are accepted."""
    bus.auth.user_registered.listen(lambda username: None, listener_name="here", bus_options={"since": since})
    assert bus.client.listeners[0].since == taken


def test_listener_of_batches(bus: BusPath) -> None:
    """It takes a list, and is refused if it cannot be called with one."""
    bus.auth.user_registered.listen(lambda messages: None, listener_name="here", batch=100)
    bus.auth.user_registered.listen(lambda message: None, listener_name="there")
    assert [(each.batch, each.batch_wait) for each in bus.client.listeners] == [(100, 0.05), (0, 0.05)]
    with pytest.raises(InvalidEventListener, match="cannot be called with a list alone"):
        bus.auth.user_registered.listen(lambda message, username: None, listener_name="wrong", batch=100)


def test_groups_of_listeners(bus: BusPath) -> None:
    """The group is service and listener, another one if it is named, and none for what each process has by itself."""
    path = bus.auth.user_registered
    for name, options in (("a", {}), ("b", {"group": None}), ("c {pid}", {}), ("d", {"group": "all-{listener_name}"})):
        path.listen(lambda username: None, listener_name=name, **options)
    groups = [listener.group_of("shop") for listener in bus.client.listeners]
    assert groups == ["shop-a", "", "", "all-d"]


def test_listener_must_be_callable(bus: BusPath) -> None:
    """What cannot be called cannot listen; an event that a registered API lacks cannot be listened to."""
    with pytest.raises(InvalidEventListener, match=r"5 cannot listen: it is not callable"):
        bus.auth.user_registered.listen(5)  # type: ignore[arg-type]
    with pytest.raises(EventNotFound, match="Did you mean 'user_registered'"):
        bus.auth.user_registred.listen(print)
    with pytest.raises(NothingToListenFor, match=r"Pass \(api name, event name\) pairs"):
        bus.client.listen_for_events([], print, listener_name="none")


def test_listener_that_cannot_take_the_event(bus: BusPath) -> None:
    """A function with an argument that a registered event does not have is refused, with the event's arguments."""
    bus.auth.user_registered.listen(lambda message, username, age: None, listener_name="fits")
    bus.auth.user_registered.listen(lambda message, nickname="?": None, listener_name="has a default")
    with pytest.raises(
        InvalidEventListener, match=r"wants an argument 'nickname'.*user_registered\(username: str, age"
    ):
        bus.auth.user_registered.listen(lambda message, nickname: None, listener_name="does not fit")


def test_listener_that_is_a_generator(bus: BusPath) -> None:
    """Calling it would run nothing, so it is refused at the declaration."""

    def listener(message: Any) -> Any:
        yield message

    with pytest.raises(InvalidEventListener, match="has a `yield` in it, so that calling it runs nothing of it"):
        bus.auth.user_registered.listen(listener, listener_name="yields")


def test_duplicate_listener_name(bus: BusPath) -> None:
    """Two listeners of one name would be one consumer group; the default name is the function's, with its module."""

    def listener(message: EventMessage) -> None: ...

    bus.auth.user_registered.listen(listener)
    assert bus.client.listeners[0].name == f"{__name__}.test_duplicate_listener_name.<locals>.listener"
    with pytest.raises(DuplicateListenerName, match=r"'auth' has a listener named '.*listener' already.*listener_name"):
        bus.auth.user_registered.listen(listener)
    bus.auth.user_registered.listen(listener, listener_name="another")
    bus.other.happened.listen(listener)


def test_two_listeners_of_one_group(bus: BusPath) -> None:
    """Refused in one process, since each would miss the other's events; on different APIs they share nothing."""

    def listener(message: EventMessage) -> None: ...

    bus.auth.user_registered.listen(listener, listener_name="one", group="shop")
    with pytest.raises(DuplicateListenerName, match=r"'one' and 'two' of the API 'auth' are given one group, 'shop'"):
        bus.auth.user_registered.listen(listener, listener_name="two", group="shop")
    bus.other.happened.listen(listener, listener_name="two", group="shop")
    for name in ("three", "four"):
        bus.auth.user_registered.listen(listener, listener_name=name, group=None)


def test_objects_without_a_name_can_listen(bus: BusPath) -> None:
    """A partial, or an object with `__call__`, gets a descriptive name."""

    class Handler:
        def __call__(self, message: EventMessage) -> None: ...

    bus.auth.user_registered.listen(functools.partial(print, end=""))
    bus.auth.user_registered.listen(Handler())
    names = [listener.name for listener in bus.client.listeners]
    assert names == ["builtins.print", f"{__name__}.test_objects_without_a_name_can_listen.<locals>.Handler"]


def test_one_listener_for_several_events(served: BusPath) -> None:
    """`listen_for_events` passes the events of several APIs to one function."""
    heard: list[str] = []
    events = [("auth", "user_registered"), ("other", "happened")]
    served.client.listen_for_events(events, lambda message: heard.append(message.event_name), listener_name="both")
    served.auth.user_registered(username="sally")
    wait_until(lambda: heard == ["user_registered"])
    assert [listener.api for listener in served.client.listeners] == ["auth", "other"]


@pytest.mark.parametrize("module", ["/srv/app/bus.py", "/home/sally/bus.py", "/bus.py", "<stdin>"])
def test_meaningless_service_name(module: str) -> None:
    """Without an own service name, calls and firing work; a listener is refused with the line to write."""
    names: dict[str, Any] = {"__file__": module, "lightbus": lightbus}
    exec("bus = lightbus.create(); named = lightbus.create(service_name='orders')", names)
    with pytest.raises(
        InvalidEventListener, match=r"another service may have.*lightbus\.create\(service_name='\.\.\.'\)"
    ):
        names["bus"].auth.user_registered.listen(print)
    names["named"].auth.user_registered.listen(print)


@pytest.mark.parametrize(
    "odd",
    [
        {"on_error": "foo"},
        {"listener_name": ""},
        {"listener_name": 5},
        {"listener_name": "a\0b"},
        {"listener_name": "l" * 513, "group": None},
    ],
)
def test_listeners_that_cannot_be_meant(bus: BusPath, odd: dict[str, Any]) -> None:
    """A policy that there is not, and a name that is none, are refused."""
    with pytest.raises(InvalidEventListener, match=next(iter(odd))):
        bus.other.happened.listen(print, **odd)
    with pytest.raises(InvalidParameters, match="no option 'sincee'"):
        bus.other.happened.listen(print, bus_options={"sincee": 1})


def test_a_lambda_needs_a_name_for_its_group(bus: BusPath) -> None:
    """By itself, in a partial or around another function it has none. Without a group it needs none."""

    def decorated(message: EventMessage) -> None: ...

    nameless = lambda message: None  # noqa: E731
    for listener in (nameless, functools.partial(nameless), functools.wraps(nameless)(decorated)):
        with pytest.raises(InvalidEventListener, match=r"is a lambda, .* Pass listener_name='\.\.\.', or a function"):
            bus.other.happened.listen(listener)
        with pytest.raises(InvalidEventListener, match="is a lambda"):
            bus.other.happened.listen(listener, batch=10, group="{service_name}-all")
    assert bus.client.listeners == []
    bus.other.happened.listen(lambda message: None, group=None)
    bus.other.happened.listen(lambda message: None, listener_name="named")


@pytest.mark.parametrize("events", ["auth.user_registered", [("auth",)], ["auth.user_registered"], [("auth", 1)]])
def test_events_that_are_no_pairs(bus: BusPath, events: Any) -> None:
    """An event must be given as API name and event name."""
    with pytest.raises(InvalidEventListener, match="is no event: give each as"):
        bus.client.listen_for_events(events, lambda message: None)


def test_policy_by_its_name(bus: BusPath) -> None:
    """A policy can be given by name."""
    bus.other.happened.listen(lambda message: None, listener_name="named", on_error="retry")  # type: ignore[arg-type]
    assert bus.client.listeners[-1].on_error is OnError.RETRY


def test_listener_to_an_unknown_event(served: BusPath, caller: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """It is refused with near names once the API is registered."""
    caller.auth.user_registred.listen(lambda message: None, listener_name="typo")
    caller.auth.check_password.listen(lambda message: None, listener_name="procedure")
    caller.client.start_in_background()
    caller.auth.user_regstered.listen(lambda message: None, listener_name="later")
    wait_until(lambda: sum("has no such event" in text for text in caplog.messages) == 3)
    assert sum("Did you mean 'user_registered'" in text for text in caplog.messages) == 2

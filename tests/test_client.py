"""The client: declaring, hooks, schedules, listeners, names, and a worker's life inside a program."""

from __future__ import annotations

import asyncio
import functools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import schedule

import lightbus
from helpers import Door, Stopwatch, wait_until, wait_until_async
from helpers.doors import SyncDoor
from lightbus import (
    Api,
    BusPath,
    CannotBlockHere,
    DuplicateListenerName,
    Event,
    EventMessage,
    EventNotFound,
    Feature,
    InvalidApiRegistryEntry,
    InvalidEventArguments,
    InvalidEventListener,
    InvalidParameters,
    InvalidSchedule,
    LightbusServerMustStartInMainThread,
    LightbusTimeout,
    LightbusWorkerError,
    NothingToListenFor,
    OnError,
    Parameter,
    PeerUnreachable,
    ResultMessage,
    RpcMessage,
    SchemaNotFound,
    UnknownApi,
    UnknownListener,
    UnknownProcedure,
    UnsupportedUse,
)
from lightbus.adapters.sqlite.outbox import Outbox
from lightbus.plugins import LightbusPlugin


class AuthApi(Api):
    user_registered = Event([Parameter("username", str), Parameter("age", int, default=18)])

    class Meta:
        name = "auth"

    def check_password(self, username: str, password: str) -> bool:
        return password == "secret"

    async def fail(self, why: str) -> None:
        raise ValueError(why)


@pytest.fixture
def bus() -> Iterator[BusPath]:
    """Return a bus with an API, that nobody serves yet."""
    bus = lightbus.create(service_name="auth-service")
    bus.client.register_api(AuthApi())
    yield bus
    bus.client.close()


@pytest.fixture
def served(bus: BusPath) -> BusPath:
    """Return a bus with a worker in the background."""
    bus.client.start_in_background()
    return bus


@pytest.fixture
def caller() -> Iterator[BusPath]:
    """Return a bus that registers nothing."""
    bus = lightbus.create(service_name="caller")
    yield bus
    bus.client.close()


# Registering


def test_register_api_wants_an_instance(bus: BusPath) -> None:
    """A class is refused with the line to write; so are a second Api of a name, and what is none."""
    with pytest.raises(InvalidApiRegistryEntry, match=r"bus\.client\.register_api\(AuthApi\(\)\)"):
        bus.client.register_api(AuthApi)  # type: ignore[arg-type]
    with pytest.raises(InvalidApiRegistryEntry, match="'auth' is registered already"):
        bus.client.register_api(AuthApi())
    with pytest.raises(InvalidApiRegistryEntry, match="An instance of 'str' is no Api"):
        bus.client.register_api("auth")  # type: ignore[arg-type]
    assert bus.client.api_registry.names() == ["auth"]


def test_methods_that_are_no_procedures_are_named(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """What looks like a method and cannot be served is said when its Api is registered, with the reason."""

    class Prices(Api):
        now = time.monotonic

        class Meta:
            name = "prices"

    bus.client.register_api(Prices())
    assert [record.getMessage() for record in caplog.records] == [
        "prices.now is no procedure: it is a builtin_function_or_method, which is not given the Api. "
        "Write a `def` that calls it, or begin its name with an underscore"
    ]


def test_registering_while_running(served: BusPath, caller: BusPath, door: Door) -> None:
    """An API registered after the start is served at once, and a caller finds it."""

    class Late(Api):
        class Meta:
            name = "late"

        def get(self) -> int:
            return 7

    assert door.call(caller.auth.check_password, username="sally", password="secret") is True
    served.client.register_api(Late())
    assert door.call(caller.late.get) == 7


def test_api_registry(bus: BusPath) -> None:
    """Registered Apis are found by name, and told apart as public and internal."""

    class Secret(Api):
        class Meta:
            name = "secret"
            internal = True

    bus.client.api_registry.add(Secret())
    registry = bus.client.api_registry
    assert [api.meta.name for api in registry.public()] == ["auth"]
    assert [api.meta.name for api in registry.internal()] == ["secret"]
    assert [api.meta.name for api in registry.all()] == registry.names() == ["auth", "secret"]
    registry.remove("secret")
    with pytest.raises(UnknownApi, match="No Api named 'secret' is registered"):
        registry.get("secret")


# Calling and firing where the API is registered


def test_caller_checks_what_it_knows(bus: BusPath, door: Door) -> None:
    """Where the API is registered, or its schema loaded, wrong arguments do not even leave the process."""
    with pytest.raises(InvalidParameters, match=r"needs the argument 'password'") as caught:
        door.call(bus.auth.check_password, username="sally")
    assert "(says " not in str(caught.value)
    with pytest.raises(UnknownProcedure, match="has no procedure 'check_pasword'"):
        door.call(bus.auth.check_pasword, username="sally")
    with pytest.raises(EventNotFound, match="Did you mean 'user_registered'"):
        door.fire(bus.auth.user_registred, username="sally")


def test_strict_validation(served: BusPath, door: Door) -> None:
    """With strict_validation a call to an API whose schema nobody loaded is refused."""
    bus = lightbus.create({"apis": {"default": {"strict_validation": True}}}, service_name="strict")
    try:
        with pytest.raises(SchemaNotFound, match=r"strict_validation is on for 'auth'.*load_local"):
            door.call(bus.auth.check_password, username="sally")
    finally:
        bus.client.close()


def test_result_is_cast_where_the_api_is_registered(bus: BusPath, door: Door) -> None:
    """A caller that knows the annotation of the result gets that type, not its plain form."""

    class Sets(Api):
        class Meta:
            name = "sets"

        def get(self) -> set[int]:
            return {1, 2}

    bus.client.register_api(Sets())
    bus.client.start_in_background()
    assert door.call(bus.sets.get) == {1, 2}


def test_own_registered_api_without_worker(bus: BusPath, door: Door) -> None:
    """Registering alone serves nothing: somebody must run the worker."""
    with pytest.raises(UnknownApi, match=r"No peer advertises the API 'auth'.*lightbus run"):
        door.call(bus.auth.check_password, username="sally", password="secret")


def test_event_message_of_fire(served: BusPath, caller: BusPath, door: Door) -> None:
    """Firing returns the message, with what a default filled in; handed off or not."""
    message = door.fire(served.auth.user_registered, username="sally")
    assert isinstance(message, EventMessage)
    assert message.kwargs == {"username": "sally", "age": 18}
    assert message.publisher == served.client.engine.identity.instance
    journal = served.client.engine.shelf.own()
    assert message.native_id == f"{journal.id}-{journal.head}"
    assert abs(message.published_at - time.time()) < 10
    handed_off = door.fire(caller.auth.user_registered, username="sally")
    assert handed_off.publisher == message.publisher
    assert handed_off.id != message.id


class DatedApi(Api):
    booked = Event([Parameter("on", date), Parameter("note", str, default=None)])

    class Meta:
        name = "dated"

    def book(self, on: date) -> None: ...


def test_a_text_that_is_no_date_is_refused_where_it_is_sent(served: BusPath, caller: BusPath, door: Door) -> None:
    """Fired by the publisher, handed off, or in a call. A text that is a date is taken, as is a default of None."""
    served.client.register_api(DatedApi())
    caller.client.wait_for_apis("dated")
    for bus in (served, caller):
        with pytest.raises(lightbus.ValidationError, match="on is 'yesterday'"):
            door.fire(bus.dated.booked, on="yesterday")
        with pytest.raises(lightbus.ValidationError, match="on is 'yesterday'"):
            door.call(bus.dated.book, on="yesterday")
        assert door.fire(bus.dated.booked, on="2026-01-31", note=None).native_id
        door.call(bus.dated.book, on="2026-01-31")


def test_an_event_is_taken_though_nothing_is_remembered(served: BusPath, door: Door, tmp_path: Path) -> None:
    """Where this process cannot write, an event that its publisher has stored is no error here."""
    (tmp_path / "file").write_text("")
    elsewhere = {"journal": {"data_dir": str(tmp_path / "file")}}
    caller = lightbus.create(elsewhere, service_name="caller")
    try:
        message = door.fire(caller.auth.user_registered, username="sally")
        assert message.native_id.startswith(served.client.engine.shelf.own().id)
    finally:
        caller.client.close()


def test_best_effort_event_without_a_publisher(bus: BusPath, door: Door) -> None:
    """A best-effort event that nobody is there to publish is dropped and counted; others are kept in the outbox."""

    class Loose(Api):
        seen = Event(["what"], delivery="best_effort")
        kept = Event(["what"])

        class Meta:
            name = "loose"

    bus.client.register_api(Loose())
    message = door.fire(bus.loose.seen, what=1)
    assert (message.native_id, message.publisher) == ("", "")
    assert bus.client.dropped_events == 1
    kept = door.fire(bus.loose.kept, what=1)
    assert (kept.native_id, kept.publisher) == ("", "")
    assert [each.id for each in Outbox(bus.client.engine.shelf.path).waiting()] == [kept.id]
    with pytest.raises(InvalidEventArguments):
        door.fire(bus.loose.seen, wath=1)


def test_history_and_lag(served: BusPath, caller: BusPath, door: Door) -> None:
    """What was fired is kept and can be asked for; so can how far a listener's group has come."""
    fired = [door.fire(served.auth.user_registered, username=f"user {number}") for number in range(3)]
    ask = _asked(door)
    found = ask(caller.auth.user_registered, "history")
    assert [(message.id, message.kwargs["username"], message.native_id) for message in found] == [
        (message.id, message.kwargs["username"], message.native_id) for message in fired
    ]
    assert [message.id for message in ask(caller.auth.user_registered, "history", limit=1)] == [fired[-1].id]
    assert ask(caller.auth.user_registered, "history", fired[-1].published_at + 1) == []
    with pytest.raises(UnknownListener, match="No publisher of 'auth' knows the group 'caller-greet'"):
        ask(caller.auth.user_registered, "lag", "greet")
    heard: list[str] = []
    served.auth.user_registered.listen(lambda username: heard.append(username), listener_name="greet")
    wait_until(lambda: ask(served.auth.user_registered, "lag", "greet") == 0)
    door.fire(served.auth.user_registered, username="sally", bus_options={"wait_for": "ack"})
    assert heard == ["sally"]
    assert ask(served.auth.user_registered, "lag", "greet") == 0


def test_all_publishers_are_asked(served: BusPath, door: Door, caplog: pytest.LogCaptureFixture) -> None:
    """A process that has just started asks all of them, and names the one that does not answer."""
    other = lightbus.create(service_name="auth-service")
    other.client.register_api(AuthApi())
    other.client.start_in_background()
    for bus, name in ((served, "ada"), (other, "sally")):
        bus.auth.user_registered.fire(username=name)
    newcomer = lightbus.create(service_name="newcomer")
    engine = newcomer.client.engine
    try:
        found = _asked(door)(newcomer.auth.user_registered, "history")
        assert [message.kwargs["username"] for message in found] == ["ada", "sally"]
        assert caplog.records == []
        silent = engine.snapshot.by_api["auth"]
        engine.snapshot = replace(engine.snapshot, announced={"auth": silent[:1]}, by_api={"auth": silent[1:]})
        assert len(_asked(door)(newcomer.auth.user_registered, "history")) == 1
        assert f"lacks what a publisher keeps that does not answer: {silent[0]}." in caplog.text
    finally:
        newcomer.client.close()
        other.client.close()


def test_questions_of_the_past_that_cannot_be(served: BusPath, door: Door) -> None:
    """An event that is none, and a number that cannot be answered, are refused; so is blocking a loop, by its name."""
    ask = _asked(door)
    for limit in (0, -1, 1001, True, "7"):
        with pytest.raises(InvalidParameters, match=r"limit of the history of auth\.user_registered is .* 1 to 1000"):
            ask(served.auth.user_registered, "history", limit=limit)
    for question, arguments in (("history", []), ("lag", ["greet"])):
        with pytest.raises(EventNotFound, match="'auth' has no event 'user_registerd'"):
            ask(served.auth.user_registerd, question, *arguments)

    async def blocks() -> None:
        with pytest.raises(CannotBlockHere, match=r"bus\.auth\.user_registered\.lag_async\(\)"):
            served.auth.user_registered.lag("greet")

    asyncio.run(blocks())


def _asked(door: Door) -> Callable[..., Any]:
    """Return what asks a path's question through a door."""

    def ask(path: BusPath, question: str, *args: Any, **kwargs: Any) -> Any:
        if isinstance(door, SyncDoor):
            return getattr(path, question)(*args, **kwargs)
        return asyncio.run(getattr(path, f"{question}_async")(*args, **kwargs))

    return ask


def test_waiting_for_the_groups(served: BusPath, caller: BusPath, door: Door) -> None:
    """With `wait_for` "ack" firing returns when the listeners have handled it, and is late when they do not."""
    gate = threading.Event()
    served.auth.user_registered.listen(lambda username: gate.wait(10), listener_name="slow")
    caller.client.wait_for_apis("auth", timeout=20)
    for bus in (served, caller):
        with pytest.raises(LightbusTimeout, match=r"user_registered .*within 0\.\d+ s.* Raise `event_fire_timeout` \("):
            door.fire(bus.auth.user_registered, username="sally", bus_options={"wait_for": "ack", "timeout": 0.2})
    gate.set()
    door.fire(caller.auth.user_registered, username="sally", bus_options={"wait_for": "ack"})
    with pytest.raises(InvalidParameters, match=r"wait_for is 'disk'\. There are: journal, ack"):
        door.fire(caller.auth.user_registered, username="sally", bus_options={"wait_for": "disk"})


def test_a_process_that_keeps_events_publishes_them(bus: BusPath, door: Door) -> None:
    """Where nobody advertises the API that it has registered, it does so itself, until it is a worker or ends."""
    door.fire(bus.auth.user_registered, username="sally")
    wait_until(lambda: bus.client.engine.publisher is not None)
    assert bus.client.is_worker
    other = lightbus.create(service_name="other")
    try:
        assert other.auth.user_registered.history()[0].kwargs == {"username": "sally", "age": 18}
        with pytest.raises(PeerUnreachable, match="serves no calls"):
            other.auth.check_password(username="admin", password="secret")
        bus.client.start_in_background()
        wait_until(lambda: _answers(other))
    finally:
        other.client.close()


def test_what_a_process_keeps_and_publishes_is_in_order(bus: BusPath, door: Door) -> None:
    """What it fired before it published comes first, whatever is fired while it becomes the publisher."""
    numbers = iter(range(10**6))
    while bus.client.engine.publisher is None:
        door.fire(bus.auth.user_registered, username="sally", age=next(numbers))
    for _ in range(10):
        door.fire(bus.auth.user_registered, username="sally", age=next(numbers))
    found = _asked(door)(bus.auth.user_registered, "history")
    assert [each.kwargs["age"] for each in found] == list(range(next(numbers)))
    assert Outbox(bus.client.engine.shelf.path).counts() == {}


def test_calling_an_event_fires_it(bus: BusPath, caller: BusPath) -> None:
    """With an event's options, and where nobody publishes it, it is kept as by `fire`, if it is a known one."""
    kept = bus.auth.user_registered(username="sally", bus_options={"wait_for": "journal"})
    outbox = Outbox(bus.client.engine.shelf.path)
    assert [each.id for each in outbox.waiting()] == [kept.id]
    wait_until(lambda: not outbox.waiting())  # it publishes it itself
    with pytest.raises(UnknownApi):
        caller.mail.sent(number=1, bus_options={"wait_for": "journal"})
    outbox.note_seen("mail", "sent")
    also_kept = caller.mail.sent(number=1, bus_options={"wait_for": "journal"})
    assert [each.id for each in outbox.waiting()] == [also_kept.id]
    with pytest.raises(InvalidParameters, match="no option 'idempotent'"):
        caller.mail.sent(number=1, bus_options={"idempotent": True})
    with pytest.raises(InvalidParameters, match="no option 'wait_for'"):
        bus.auth.check_password(username="sally", password="secret", bus_options={"wait_for": "ack"})
    bus.client.start_in_background()
    newcomer = lightbus.create(service_name="newcomer")
    try:
        fired = newcomer.auth.user_registered(username="ada", bus_options={"wait_for": "ack"})
        assert fired.publisher == bus.client.engine.identity.instance
    finally:
        newcomer.client.close()


def test_who_keeps_events_says_at_the_end_where_they_are(
    bus: BusPath, door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that ends before it published what it fired names the place, and who will deliver it."""
    for username in ("sally", "ada"):
        door.fire(bus.auth.user_registered, username=username)
    path = Outbox(bus.client.engine.shelf.path).path
    bus.client.close()
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"Nobody publishes auth at the moment: 2 events wait on this host, in {path}, and are handed over by" in said


def _answers(bus: BusPath) -> bool:
    try:
        return bool(bus.auth.check_password(username="admin", password="secret"))
    except lightbus.LightbusException:
        return False


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"group": ""}, "group of the listener here is ''"),
        ({"group": 7}, "group of the listener here is 7"),
        ({"concurrency": 0}, "concurrency of the listener here is 0. It is a whole number above 0"),
        ({"concurrency": True}, "concurrency of the listener here is True"),
        ({"max_deliveries": 1.5}, "max_deliveries of the listener here is 1.5"),
        (
            {"bus_options": {"since": "no-such-id"}},
            "since of the listener here is 'no-such-id'. It is the id",
        ),
        ({"bus_options": {"since": "2026-13-01"}}, "since of the listener here is '2026-13-01'"),
        ({"bus_options": {"since": ""}}, "since of the listener here is ''"),
        ({"bus_options": {"since": 7}}, "since of the listener here is 7. It is the id of an event, a datetime"),
    ],
)
def test_options_of_a_listener_that_cannot_be(bus: BusPath, options: dict[str, Any], problem: str) -> None:
    """What cannot be meant is refused where it is written, with what can be."""
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
    """An event's id, a time, also as text, and the two signs are taken as they are meant."""
    bus.auth.user_registered.listen(lambda username: None, listener_name="here", bus_options={"since": since})
    assert bus.client.listeners[0].since == taken


def test_groups_of_listeners(bus: BusPath) -> None:
    """The group is service and listener, another one if it is named, and none for what each process has by itself."""
    path = bus.auth.user_registered
    for name, options in (("a", {}), ("b", {"group": None}), ("c {pid}", {}), ("d", {"group": "all-{listener_name}"})):
        path.listen(lambda username: None, listener_name=name, **options)
    groups = [listener.group_of("shop") for listener in bus.client.listeners]
    assert groups == ["shop-a", "", "", "all-d"]


# Listening


def test_listener_must_be_callable(bus: BusPath) -> None:
    """What cannot be called cannot listen; an event that a registered API lacks cannot be listened to."""
    with pytest.raises(InvalidEventListener, match=r"5 cannot listen: it is not callable"):
        bus.auth.user_registered.listen(5)  # type: ignore[arg-type]
    with pytest.raises(EventNotFound, match="Did you mean 'user_registered'"):
        bus.auth.user_registred.listen(print)
    with pytest.raises(NothingToListenFor, match=r"Pass \(api name, event name\) pairs"):
        bus.client.listen_for_events([], print, listener_name="none")


def test_listener_that_cannot_take_the_event(bus: BusPath) -> None:
    """A function that wants an argument which a registered event does not carry is refused, with what there is."""
    bus.auth.user_registered.listen(lambda message, username, age: None, listener_name="fits")
    bus.auth.user_registered.listen(lambda message, nickname="?": None, listener_name="has a default")
    with pytest.raises(
        InvalidEventListener, match=r"wants an argument 'nickname'.*user_registered\(username: str, age"
    ):
        bus.auth.user_registered.listen(lambda message, nickname: None, listener_name="does not fit")


def test_listener_that_is_a_generator(bus: BusPath) -> None:
    """Calling it would run nothing of it, so it is refused where it is declared."""

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
    """In one process each would miss what the other is given; of different APIs they share nothing."""

    def listener(message: EventMessage) -> None: ...

    bus.auth.user_registered.listen(listener, listener_name="one", group="shop")
    with pytest.raises(DuplicateListenerName, match=r"'one' and 'two' of the API 'auth' are given one group, 'shop'"):
        bus.auth.user_registered.listen(listener, listener_name="two", group="shop")
    bus.other.happened.listen(listener, listener_name="two", group="shop")
    for name in ("three", "four"):
        bus.auth.user_registered.listen(listener, listener_name=name, group=None)


def test_objects_without_a_name_can_listen(bus: BusPath) -> None:
    """A partial, or an object with `__call__`, gets a name that says what it is."""

    class Handler:
        def __call__(self, message: EventMessage) -> None: ...

    bus.auth.user_registered.listen(functools.partial(print, end=""))
    bus.auth.user_registered.listen(Handler())
    names = [listener.name for listener in bus.client.listeners]
    assert names == ["builtins.print", f"{__name__}.test_objects_without_a_name_can_listen.<locals>.Handler"]


def test_one_listener_for_several_events(served: BusPath) -> None:
    """`listen_for_events` gives one function the events of several APIs."""
    heard: list[str] = []
    events = [("auth", "user_registered"), ("other", "happened")]
    served.client.listen_for_events(events, lambda message: heard.append(message.event_name), listener_name="both")
    served.auth.user_registered(username="sally")
    wait_until(lambda: heard == ["user_registered"])
    assert [listener.api for listener in served.client.listeners] == ["auth", "other"]


@pytest.mark.parametrize("module", ["/srv/app/bus.py", "/home/sally/bus.py", "/bus.py", "<stdin>"])
def test_service_name_that_says_nothing(module: str) -> None:
    """Without a service name of its own, calls and firing work; a listener is refused with the line to write."""
    names: dict[str, Any] = {"__file__": module, "lightbus": lightbus}
    exec("bus = lightbus.create(); named = lightbus.create(service_name='orders')", names)
    with pytest.raises(
        InvalidEventListener, match=r"another service may have.*lightbus\.create\(service_name='\.\.\.'\)"
    ):
        names["bus"].auth.user_registered.listen(print)
    names["named"].auth.user_registered.listen(print)


# Hooks and plugins


def test_hooks_of_a_worker(bus: BusPath) -> None:
    """The hooks of a worker's life run in order, on their way whatever form they were given in."""
    ran: list[str] = []

    @bus.client.on_start
    def bare() -> None:
        ran.append("on_start")

    @bus.client.on_stop()
    async def called(client: lightbus.BusClient) -> None:
        assert client is bus.client
        ran.append("on_stop")

    @bus.client.before_worker_start(before_plugins=True)
    def with_option(**kwargs: Any) -> None:
        assert kwargs == {"client": bus.client}
        ran.append("before_worker_start")

    def plain() -> None:
        ran.append("after_worker_stopped")

    assert bus.client.after_worker_stopped(plain) is plain
    assert callable(bare)
    bus.client.start_in_background()
    assert ran == ["before_worker_start", "on_start"]
    bus.client.close()
    assert ran == ["before_worker_start", "on_start", "on_stop", "after_worker_stopped"]


def test_sync_hook_may_block_and_call(bus: BusPath) -> None:
    """A `def` hook runs in a thread: it may listen, as in the project's own document, and make calls."""
    heard: list[str] = []
    answers: list[bool] = []

    @bus.client.on_start()
    def on_start() -> None:
        bus.auth.user_registered.listen(lambda message, username: heard.append(username), listener_name="hear")

    @bus.client.after_rpc_execution()
    def after() -> None:
        if not answers:
            answers.append(False)
            answers[0] = bus.auth.check_password(username="sally", password="secret")

    bus.client.start_in_background()
    assert bus.auth.check_password(username="sally", password="wrong") is False
    assert answers == [True]
    bus.auth.user_registered(username="sally")
    wait_until(lambda: heard == ["sally"])


def test_hooks_of_calls(served: BusPath, door: Door) -> None:
    """The hooks around a call and its execution are told the call and its result."""
    told: list[tuple[str, str, dict[str, Any], Any]] = []

    def note(hook: str) -> Callable[..., None]:
        def noted(rpc_message: RpcMessage, result_message: ResultMessage | None = None) -> None:
            result = None if result_message is None else result_message.result
            told.append((hook, rpc_message.canonical_name, rpc_message.kwargs, result))

        return noted

    for hook in ("before_rpc_call", "after_rpc_call", "before_rpc_execution", "after_rpc_execution"):
        getattr(served.client, hook)(note(hook))
    arguments = {"username": "sally", "password": "secret"}
    assert door.call(served.auth.check_password, **arguments) is True
    assert told == [
        ("before_rpc_call", "auth.check_password", arguments, None),
        ("before_rpc_execution", "auth.check_password", arguments, None),
        ("after_rpc_execution", "auth.check_password", arguments, True),
        ("after_rpc_call", "auth.check_password", arguments, True),
    ]


def test_hooks_of_calls_that_fail(served: BusPath, door: Door) -> None:
    """The hooks after a call are told of its failure, too, on both sides."""
    told: list[ResultMessage] = []
    served.client.after_rpc_execution(lambda result_message: told.append(result_message))
    served.client.after_rpc_call(lambda result_message: told.append(result_message))
    with pytest.raises(LightbusWorkerError, match="raised ValueError: no luck"):
        door.call(served.auth.fail, why="no luck")
    executed, called = told
    assert executed.error
    assert isinstance(executed.result, ValueError)
    assert executed.trace.endswith("ValueError: no luck\n")
    assert called.error
    assert isinstance(called.result, LightbusWorkerError)
    assert called.trace == called.result.trace
    assert (called.api_name, called.procedure_name) == ("auth", "fail")


def test_hook_refuses_a_call(served: BusPath, door: Door) -> None:
    """An exception in a hook before a call reaches the caller instead of a result; before its execution, likewise."""

    @served.client.before_rpc_call
    def refuse(rpc_message: RpcMessage) -> None:
        if rpc_message.kwargs["username"] == "mallory":
            raise PermissionError("not you")

    @served.client.before_rpc_execution
    async def refuse_there(rpc_message: RpcMessage) -> None:
        if rpc_message.kwargs["username"] == "eve":
            raise PermissionError("nor you")

    with pytest.raises(PermissionError, match="not you"):
        door.call(served.auth.check_password, username="mallory", password="")
    with pytest.raises(LightbusWorkerError, match="raised PermissionError: nor you"):
        door.call(served.auth.check_password, username="eve", password="")
    assert door.call(served.auth.check_password, username="sally", password="secret") is True


def test_hooks_of_events(bus: BusPath, door: Door) -> None:
    """The hooks around firing and handling are told the event, and which listener handles it."""
    told: list[tuple[str, ...]] = []
    bus.auth.user_registered.listen(lambda message: told.append(("handled",)), listener_name="hear")
    bus.client.before_event_sent(lambda event_message: told.append(("before_sent", event_message.canonical_name)))
    bus.client.after_event_sent(lambda event_message: told.append(("after_sent", event_message.native_id)))
    bus.client.before_event_execution(
        lambda event_message, listener_name: told.append(("before", listener_name, event_message.id))
    )
    bus.client.after_event_execution(lambda listener_name: told.append(("after", listener_name)))
    bus.client.start_in_background()
    message = door.fire(bus.auth.user_registered, username="sally")
    wait_until(lambda: len(told) == 5)
    assert told[0] == ("before_sent", "auth.user_registered")
    assert ("after_sent", message.native_id) in told
    assert [each for each in told if "sent" not in each[0]] == [
        ("before", "hear", message.id),
        ("handled",),
        ("after", "hear"),
    ]


def test_plugins_given_to_create(door: Door) -> None:
    """A plugin given to create() has its hooks run, before those of the user's that did not ask to come first."""
    told: list[str] = []

    class Noting(LightbusPlugin):
        async def before_rpc_call(self, *, rpc_message: RpcMessage, client: Any) -> None:
            told.append(f"plugin {rpc_message.procedure_name}")

        async def on_start(self, *, client: Any) -> None:
            told.append("plugin on_start")

    bus = lightbus.create(service_name="plugged", plugins=[Noting()])
    bus.client.register_api(AuthApi())
    bus.client.on_start(lambda: told.append("mine"))
    bus.client.on_start(lambda: told.append("mine, first"), before_plugins=True)
    bus.client.start_in_background()
    try:
        assert door.call(bus.auth.check_password, username="sally", password="secret") is True
        assert told == ["mine, first", "plugin on_start", "mine", "plugin check_password"]
    finally:
        bus.client.close()


def test_plugins_work_without_a_worker(served: BusPath, door: Door) -> None:
    """A process that only calls has its plugins, too."""
    told: list[str] = []

    class Noting(LightbusPlugin):
        async def after_rpc_call(self, *, rpc_message: RpcMessage, result_message: Any, client: Any) -> None:
            told.append(rpc_message.procedure_name)

    bus = lightbus.create(service_name="caller", plugins=[Noting()])
    try:
        assert door.call(bus.auth.check_password, username="sally", password="secret") is True
        assert told == ["check_password"]
    finally:
        bus.client.close()


# Schedules and background tasks


def test_schedules_and_background_tasks(bus: BusPath) -> None:
    """A worker runs what is to be run by the clock, sync or async, and background tasks; all of it ends with it."""
    ran: list[str] = []

    @bus.client.every(seconds=0.05)
    def often() -> None:
        assert threading.current_thread().name.startswith("lightbus-handler")
        ran.append("often")

    @bus.client.every(hours=1, also_run_immediately=True)
    async def at_once() -> None:
        ran.append("at once")

    @bus.client.schedule(schedule.every().hour, also_run_immediately=True)
    def scheduled() -> None:
        ran.append("scheduled")

    @bus.client.schedule(schedule.every(1).seconds)
    async def soon() -> None:
        ran.append("soon")

    async def beside() -> None:
        try:
            ran.append("beside")
            await asyncio.Event().wait()
        finally:
            ran.append("beside ended")

    bus.client.add_background_task(beside())
    bus.client.start_in_background()
    wait_until(lambda: ran.count("often") >= 3 and {"at once", "scheduled", "soon", "beside"} <= {*ran})
    assert ran.count("at once") == ran.count("scheduled") == ran.count("beside") == 1
    assert callable(often)
    bus.client.close()
    assert ran[-1] == "beside ended"
    after = len(ran)
    time.sleep(0.1)
    assert len(ran) == after


def test_wrong_intervals(bus: BusPath) -> None:
    """No interval, a negative one, or no job of the schedule library is refused at once."""
    with pytest.raises(InvalidSchedule, match=r"as every\(minutes=5\)"):
        bus.client.every()
    with pytest.raises(InvalidSchedule):
        bus.client.every(seconds=-1)
    with pytest.raises(InvalidSchedule, match="needs a job of the schedule library"):
        bus.client.schedule(5)(print)  # type: ignore[arg-type]


def test_failing_schedule_goes_on(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """An exception in a scheduled function is logged, and it runs again at its next time."""
    runs: list[int] = []

    @bus.client.every(seconds=0.02)
    def fails() -> None:
        runs.append(1)
        raise ValueError("this time")

    bus.client.start_in_background()
    wait_until(lambda: len(runs) >= 3)
    assert any("fails" in record.getMessage() and record.exc_info for record in caplog.records)


def test_failing_background_task_stops_the_worker(bus: BusPath, caplog: pytest.LogCaptureFixture) -> None:
    """A background task that fails ends the worker, with exit code 1: it may be half a worker now."""

    async def fails() -> None:
        raise ValueError("no half worker")

    bus.client.add_background_task(fails())

    bus.client.start_in_background()
    wait_until(lambda: not bus.client.is_worker)
    assert bus.client.exit_code == 1
    assert "A background task failed; the worker stops, since it may be half a worker now" in caplog.messages


# Names


def test_wait_for_apis(served: BusPath, caller: BusPath) -> None:
    """One can wait for APIs, and is told which did not come, and which are there."""
    caller.client.wait_for_apis("auth")
    asyncio.run(caller.client.wait_for_apis_async("auth"))
    missing = r"Within 0\.2 s no peer advertised auht, bank\. Advertised: auth"
    with pytest.raises(LightbusTimeout, match=missing):
        caller.client.wait_for_apis("auth", "auht", "bank", timeout=0.2)
    with pytest.raises(LightbusTimeout, match=missing):
        asyncio.run(caller.client.wait_for_apis_async("auth", "auht", "bank", timeout=0.2))


def test_completions(served: BusPath, caller: BusPath) -> None:
    """`dir()` knows the APIs and their members: registered here, or discovered on the bus."""
    assert {"auth", "client", "schema"} <= {*dir(served)}
    assert {"check_password", "user_registered", "fire", "listen"} <= {*dir(served.auth)}
    caller.client.wait_for_apis("auth")
    assert "auth" in dir(caller)
    assert {"check_password", "user_registered"} <= {*dir(caller.auth)}
    assert "internal" not in dir(caller)


def test_schemas_of_a_remote_api(served: BusPath, caller: BusPath) -> None:
    """The schemas of an API that nobody loaded are asked of a peer, and serve to check what one is about to send."""
    schema = caller.auth.check_password.parameter_schema
    assert schema["required"] == ["username", "password"]
    assert schema["properties"]["username"]["type"] == "string"
    assert caller.auth.check_password.response_schema == served.auth.check_password.response_schema
    assert caller.auth.user_registered.parameter_schema["properties"]["age"]["default"] == 18
    with pytest.raises(InvalidParameters, match="password"):
        caller.auth.check_password.validate_parameters({"username": "sally"})
    with pytest.raises(lightbus.ValidationError, match="'yes', but it is not of type"):
        caller.auth.check_password.validate_response("yes")
    caller.auth.check_password.validate_response(True)
    assert caller.schema.api_names == []
    with pytest.raises(UnknownApi, match="'bank'"):
        _ = caller.bank.get.parameter_schema


def test_schema_of_a_remote_api_that_changed(caller: BusPath) -> None:
    """When the API changes, so does its schema: the one asked for earlier is not believed for longer."""
    for first in (True, False):
        bus = lightbus.create(service_name="changing")

        class Changing(Api):
            class Meta:
                name = "changing"

            if first:

                def get(self, old: int) -> int:
                    return old
            else:

                def get(self, new: int) -> int:  # type: ignore[misc]
                    return new

        bus.client.register_api(Changing())
        bus.client.start_in_background()
        name = "old" if first else "new"
        assert [*caller.changing.get.parameter_schema["properties"]] == [name]
        assert caller.changing.get(**{name: 7}) == 7
        bus.client.close()
        wait_until(lambda: "changing" not in caller.client.engine.snapshot.by_api)


def test_bus_schema(bus: BusPath, tmp_path: Any) -> None:
    """`bus.schema` holds the schemas of what is registered or loaded, and writes and reads them."""
    assert bus.schema.api_names == ["auth"]
    assert ("auth", "check_password") in bus.schema.rpcs
    assert bus.schema.events == [("auth", "user_registered")]
    bus.schema.save_local(tmp_path)
    other = lightbus.create(service_name="other")
    other.schema.load_local(tmp_path)
    assert other.schema.get_api_schema("auth") == bus.schema.get_api_schema("auth")


# A worker's life


def test_worker_beside_other_tasks(caller: BusPath, bus: BusPath) -> None:
    """A worker shares a loop with a program, goes when it is told to, and may come again."""

    async def main() -> None:
        for _ in range(2):
            await bus.client.start_worker()
            beside = asyncio.create_task(asyncio.sleep(0.05, "done"))
            assert await caller.auth.check_password.call_async(username="sally", password="secret") is True
            assert await bus.auth.check_password.call_async(username="sally", password="wrong") is False
            assert await beside == "done"
            await bus.client.stop_worker()
            assert await bus.client.stop_worker() is None
            await wait_until_async(lambda: "auth" not in caller.client.engine.snapshot.by_api)
        with pytest.raises(UnknownApi):
            await caller.auth.check_password.call_async(username="sally", password="secret")

    asyncio.run(main())


def test_worker_that_runs_already(served: BusPath) -> None:
    """A second worker of the same bus is refused, whichever way it is started."""
    with pytest.raises(UnsupportedUse, match="has a running worker already"):
        served.client.start_in_background()
    with pytest.raises(UnsupportedUse, match="has a running worker already"):
        asyncio.run(served.client.start_worker())


def test_worker_that_cannot_start(bus: BusPath, door: Door) -> None:
    """A start hook that fails ends the start with its exception, and the bus can be used again."""
    fails = [True]

    @bus.client.on_start
    def on_start() -> None:
        if fails:
            raise ValueError("not ready")

    with pytest.raises(ValueError, match="not ready"):
        asyncio.run(bus.client.start_worker())
    with pytest.raises(ValueError, match="not ready"):
        bus.client.start_in_background()
    fails.clear()
    bus.client.start_in_background()
    assert door.call(bus.auth.check_password, username="sally", password="secret") is True


def test_run_forever_wants_the_main_thread(bus: BusPath) -> None:
    """Signals reach the main thread only; the message names what works elsewhere."""
    with ThreadPoolExecutor(1) as thread, pytest.raises(LightbusServerMustStartInMainThread, match="start_in_backgr"):
        thread.submit(bus.client.run_forever).result()


def test_request_shutdown(served: BusPath) -> None:
    """Anybody may ask the worker to stop; it can be started again."""
    served.client.request_shutdown()
    wait_until(lambda: not served.client.is_worker)
    served.client.request_shutdown()
    wait_until(lambda: not any(thread.name == "lightbus-worker" for thread in threading.enumerate()))
    served.client.start_in_background()
    assert served.auth.check_password(username="sally", password="secret") is True


def test_features(bus: BusPath, caller: BusPath) -> None:
    """A worker does what its features say: without `rpcs` it serves no call, without `tasks` no clock."""
    ran: list[str] = []
    heard: list[str] = []
    bus.client.every(seconds=0.01)(lambda: ran.append("ran"))
    bus.auth.user_registered.listen(lambda message, username: heard.append(username), listener_name="hear")
    bus.client.set_features([Feature.EVENTS])
    bus.client.start_in_background()
    caller.auth.user_registered.fire(username="sally")
    wait_until(lambda: heard == ["sally"])
    assert not ran
    with pytest.raises(lightbus.NotReachable):
        caller.auth.check_password(username="sally", password="secret")


def test_features_rpcs_only(bus: BusPath, caller: BusPath) -> None:
    """A worker without `events` runs no listener."""
    heard: list[str] = []
    bus.auth.user_registered.listen(lambda message, username: heard.append(username), listener_name="hear")
    bus.client.set_features(["rpcs"])
    bus.client.start_in_background()
    caller.auth.user_registered.fire(username="sally")
    assert caller.auth.check_password(username="sally", password="secret") is True
    assert not heard
    assert bus.client.features == (Feature.RPCS,)


def test_consume_rpcs(bus: BusPath, caller: BusPath) -> None:
    """Upstream's `consume_rpcs` serves calls until it is told to stop."""

    async def main() -> None:
        serving = asyncio.create_task(bus.client.consume_rpcs())
        await caller.client.wait_for_apis_async("auth")
        assert await caller.auth.check_password.call_async(username="sally", password="secret") is True
        bus.client.request_shutdown()
        await serving

    asyncio.run(main())


def test_context_manager(bus: BusPath) -> None:
    """A client closes itself at the end of a `with` block."""
    with bus.client as client:
        assert client is bus.client
    with pytest.raises(lightbus.BusAlreadyClosed):
        bus.auth.check_password(username="sally", password="secret")


def test_names_of_the_process(bus: BusPath) -> None:
    """Service and process names are those of the settings, with their placeholders filled in, once."""
    assert bus.client.service_name == "auth-service"
    other = lightbus.create(service_name="shop-{random4}", process_name="p{pid}")
    assert len(other.client.service_name) == len("shop-") + 4
    assert other.client.service_name == other.client.service_name
    other.client.close()


# What is given in the wrong form


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (5, "is 5. It is a dict"),
        ("timeout", "It is a dict"),
        ({"timeot": 1}, "no option 'timeot'. Did you mean 'timeout'"),
        ({"timeout": -1}, "timeout is -1"),
        ({"idempotent": "no"}, "idempotent is 'no', and has to be of type bool"),
        ({"trace": 5}, "trace is 5"),
        ({"peer": 5}, "peer is 5"),
    ],
)
def test_options_that_cannot_be_meant(caller: BusPath, options: Any, complaint: str) -> None:
    """Options in the wrong form are refused before anything is looked for, whatever the form of the call."""
    for place in (caller.nowhere.nothing, caller.nowhere.nothing.call):
        with pytest.raises(InvalidParameters, match=re.escape(complaint)):
            place(bus_options=options)


def test_one_timeout_for_looking_and_calling(caller: BusPath) -> None:
    """What a call is given as its time covers the search for its API."""
    for place in (caller.nowhere.nothing, caller.nowhere.nothing.call, caller.nowhere.nothing.fire):
        watch = Stopwatch()
        with pytest.raises(UnknownApi):
            place(bus_options={"timeout": 0.05})
        assert watch.seconds < 0.8  # of the second that a fresh process would wait


@pytest.mark.parametrize("odd", [{"on_error": "foo"}, {"listener_name": ""}, {"listener_name": 5}])
def test_listeners_that_cannot_be_meant(bus: BusPath, odd: dict[str, Any]) -> None:
    """A policy that there is not, and a name that is none, are refused."""
    with pytest.raises(InvalidEventListener, match=next(iter(odd))):
        bus.other.happened.listen(lambda message: None, **odd)
    with pytest.raises(InvalidParameters, match="no option 'sincee'"):
        bus.other.happened.listen(lambda message: None, bus_options={"sincee": 1})


def test_policy_by_its_name(bus: BusPath) -> None:
    """A policy may be given by its name."""
    bus.other.happened.listen(lambda message: None, listener_name="named", on_error="retry")  # type: ignore[arg-type]
    assert bus.client.listeners[-1].on_error is OnError.RETRY


def test_listener_to_an_event_that_is_not_there(
    served: BusPath, caller: BusPath, caplog: pytest.LogCaptureFixture
) -> None:
    """Who listens to an event that its API does not have is told so, with near names, once the API is there."""
    caller.auth.user_registred.listen(lambda message: None, listener_name="typo")
    caller.client.start_in_background()
    wait_until(lambda: any("has no such event. Did you mean 'user_registered'" in text for text in caplog.messages))

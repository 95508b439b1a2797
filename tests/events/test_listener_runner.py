"""A listener and its work: what it is given, and what happens when it raises."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

import pytest

from helpers import MS, wait_until_async
from helpers.failing import ODD
from lightbus.core.streams import Entry, Stream
from lightbus.events import listener_runner as module
from lightbus.events.listener_runner import Listening
from lightbus.exceptions import ValidationError
from lightbus.listener import Listener, OnError
from lightbus.message import EventMessage
from lightbus.service.execution import runs_on_loop
from lightbus.service.hooks import HookRegistry
from lightbus.wire import envelope
from lightbus.wire.envelope import Record


@dataclass
class Point:
    x: int


class Surroundings:
    """What a listening needs of its consumer, with a memory."""

    def __init__(self, casts: bool = True) -> None:
        self.hooks = HookRegistry()
        self.client: Any = "the client"
        self.max_message_size = 2**26
        self.fatal: list[tuple[str, Exception]] = []
        self.stopped: list[Listening] = []
        self.caught_up_count = 0
        self.executor = None
        self.on_fatal: Callable[[Listener, Exception], None] = self._on_fatal
        self._casts = casts

    def _on_fatal(self, listener: Listener, error: Exception) -> None:
        self.fatal.append((listener.name, error))

    def stop_listener(self, listening: Listening) -> None:
        self.stopped.append(listening)

    def casts(self, api: str) -> bool:
        return self._casts

    def check_of(self, api: str, event: str) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
        def check(kwargs: dict[str, Any]) -> dict[str, Any]:
            if "invalid" in kwargs:
                raise ValidationError("it is invalid")
            return kwargs

        return check

    def caught_up(self) -> None:
        self.caught_up_count += 1


class Owner:
    """Where a stream comes from: notes what it is told, and answers as a publisher would."""

    publisher = "p" * 16

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.buried: list[tuple[int, int, str]] = []
        self.handled_up_to: list[int] = []
        self.let_go_of = 0
        self.looked = 0
        self.deliveries: dict[int, int] = {}
        self.is_ours = True

    async def start(self, stream: Stream, entry: Entry, at_least: int) -> int:
        if not self.is_ours:
            return 0
        self.started.append((entry.sequence, at_least))
        number = self.deliveries[entry.sequence] = max(self.deliveries.get(entry.sequence, 0), at_least - 1) + 1
        return number

    async def bury(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        self.buried.append((entry.sequence, deliveries, error))
        return self.is_ours

    def handled(self, stream: Stream) -> None:
        self.handled_up_to.append(stream.handled)

    def let_go(self, stream: Stream) -> None:
        self.let_go_of += 1

    def look(self, stream: Stream) -> None:
        self.looked += 1


class Feeder:
    """Gives events to a listener, as the streams of a publisher do: those of one partition are one stream."""

    def __init__(self, listening: Listening) -> None:
        self.owner = Owner()
        self._listening = listening
        self._streams: dict[int, Stream] = {}
        self._sequence = 0

    def stream(self, partition: int = 0, *, doubtful: int = 0) -> Stream:
        if partition not in self._streams:
            key = ("j", "seen", partition)
            self._streams[partition] = Stream(key, self.owner, cursor=self._sequence, doubtful=doubtful)
        return self._streams[partition]

    def give(self, which: int = 1, /, *, partition: int = 0, **kwargs: Any) -> None:
        stream = self.stream(partition)
        self._sequence += 1
        record = envelope.encode_record(Record(f"id-{which}", 1, 0.5, kwargs))
        assert stream.live([[self._sequence, stream.position, record]]) == 1
        self._listening.ready(stream, 1, len(record))


FEEDERS: dict[Listening, Feeder] = {}


def feeder(listening: Listening) -> Feeder:
    """Return what feeds a listener."""
    if listening not in FEEDERS:
        FEEDERS[listening] = Feeder(listening)
    return FEEDERS[listening]


def give(listening: Listening, which: int = 1, /, **kwargs: Any) -> None:
    """Have a listener be given an event."""
    feeder(listening).give(which, **kwargs)


def listener(function: Callable[..., Any], on_error: OnError = OnError.ACKNOWLEDGE_AND_LOG) -> Listener:
    """Return a listener of auth.seen."""
    return Listener(api="auth", events=("seen",), name="greeter", function=function, on_error=on_error)


def run(
    function: Callable[..., Any],
    test: Callable[[Listening, Surroundings], Awaitable[None]],
    on_error: OnError = OnError.ACKNOWLEDGE_AND_LOG,
    **options: Any,
) -> None:
    """Run a test with a listener at work, and stop it."""

    async def main() -> None:
        surroundings = Surroundings(**options)
        listening = Listening(surroundings, listener(function, on_error))
        await test(listening, surroundings)
        await listening.stop(5.0)

    asyncio.run(main())


def given(function: Callable[..., Any], /, casts: bool = True, **kwargs: Any) -> None:
    """Have a listener handle one event with these arguments."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening, **kwargs)
        await wait_until_async(lambda: listening.handled)
        assert listening.counts["failed"] == 0

    run(function, test, casts=casts)


# What it is given


def test_the_message_and_the_arguments() -> None:
    """The message goes first, the arguments by name."""
    seen: list[Any] = []
    given(lambda event_message, username, age: seen.append((event_message, username, age)), username="sally", age=30)
    [(message, username, age)] = seen
    assert (message.id, message.native_id, message.publisher) == ("id-1", "j-1", "p" * 16)
    assert (username, age) == ("sally", 30)


def test_only_the_message() -> None:
    """A listener may leave the arguments in the message."""
    seen: list[Any] = []
    given(lambda event_message: seen.append(event_message), username="sally")
    assert [message.kwargs for message in seen] == [{"username": "sally"}]


def test_only_arguments() -> None:
    """A listener whose first parameter is an argument of the event is not given the message."""
    seen: list[Any] = []
    given(lambda username: seen.append(username), username="sally", age=30)
    assert seen == ["sally"]


def test_some_of_the_arguments() -> None:
    """A listener names what it wants; an event may get further arguments without breaking it."""
    seen: list[Any] = []
    given(lambda m, age, *, username="nobody": seen.append((username, age)), username="sally", age=30, more=1)
    assert seen == [("sally", 30)]


def test_all_arguments() -> None:
    """A listener with `**kwargs` is given every argument."""
    seen: list[Any] = []
    given(lambda m, **kwargs: seen.append(kwargs), username="sally", age=30)
    assert seen == [{"username": "sally", "age": 30}]


def test_keyword_only_arguments() -> None:
    """A listener without a positional parameter is given no message."""
    seen: list[Any] = []
    given(lambda *, username: seen.append(username), username="sally")
    assert seen == ["sally"]


def test_any_positional_argument() -> None:
    """A listener with `*args` is given the message there."""
    seen: list[Any] = []
    given(lambda *args, **kwargs: seen.append((args, kwargs)), username="sally")
    [((message,), kwargs)] = seen
    assert (message.id, kwargs) == ("id-1", {"username": "sally"})


def test_a_bound_method() -> None:
    """`self` is no parameter of the event's."""

    class Greeter:
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def greet(self, message: EventMessage, username: str) -> None:
            self.seen.append((message.id, username))

    greeter = Greeter()
    given(greeter.greet, username="sally")
    assert greeter.seen == [("id-1", "sally")]


@pytest.mark.parametrize(("casts", "kind"), [(True, Point), (False, dict)])
def test_arguments_become_what_is_annotated(casts: bool, kind: type) -> None:
    """A map becomes the dataclass the parameter says, with and without the message; unless casting is off."""
    seen: list[Any] = []

    def with_message(message: EventMessage, point: Point) -> None:
        seen.append(type(point))

    def without_message(point: Point) -> None:
        seen.append(type(point))

    given(with_message, point={"x": 1}, casts=casts)
    given(without_message, point={"x": 1}, casts=casts)
    assert seen == [kind, kind]


def test_a_plain_function_runs_in_a_thread() -> None:
    """A `def` listener does not block the loop, an `async def` one runs on it."""
    seen: list[str] = []

    def plain() -> None:
        seen.append(threading.current_thread().name)

    async def awaited() -> None:
        seen.append(threading.current_thread().name)

    given(plain)
    given(awaited)
    assert seen[0] != seen[1] == threading.current_thread().name


def test_an_object_with_an_async_call() -> None:
    """What is awaitable is told by how it is called."""

    class Greeter:
        async def __call__(self, message: EventMessage) -> None: ...

    assert runs_on_loop(listener(Greeter()).function)
    assert not runs_on_loop(listener(lambda: None).function)


def test_a_listener_is_named_in_a_log() -> None:
    """Its name, and what it listens to."""
    both = Listener(api="auth", events=("seen", "gone"), name="greeter", function=print)
    assert str(both) == "greeter of auth.seen, auth.gone"


# Its work


def test_events_are_handled_in_order() -> None:
    """One at a time, whatever each takes; the rest of the loop gets its turn between them."""
    seen: list[int] = []

    async def function(number: int) -> None:
        if number % 7 == 0:
            await asyncio.sleep(0)
        seen.append(number)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for number in range(200):
            give(listening, number=number)
        assert listening.backlog == 200
        turns = 0
        while listening.handled < 200:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 200 // module.TURN
        assert seen == list(range(200))
        assert listening.backlog == 0

    run(function, test)


def test_a_record_that_is_none_among_others(caplog: pytest.LogCaptureFixture) -> None:
    """Events are decoded together; one that is none is passed over by itself, and the others are handled in order."""
    seen: list[int] = []

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        stream = feeder(listening).stream()
        records = [envelope.encode_record(Record(f"id-{n}", 1, 0.5, {"n": n})) for n in range(6)]
        records[2], records[4] = b"\xc1", b""
        assert stream.live([[n, n - 1, record] for n, record in enumerate(records, 1)]) == 6
        listening.ready(stream, 6, stream.size)
        await wait_until_async(lambda: listening.handled == 6)
        assert (seen, listening.counts["invalid"], listening.backlog_bytes) == ([0, 1, 3, 5], 2, 0)

    async def function(n: int) -> None:
        seen.append(n)

    run(function, test)
    assert "at j-3 (partition 0) is not given to the listener" in caplog.text


def test_what_is_dropped_in_a_row_is_not_handled() -> None:
    """Events that were decoded ahead, and then dropped or skipped while one was handled, are not given to anybody."""
    seen: list[int] = []

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        async def function(n: int) -> None:
            seen.append(n)
            if n == 2:
                at_work.skip(stream, 4)
            elif n == 6:
                at_work.forget(stream)

        at_work = Listening(surroundings, listener(function))
        stream = feeder(at_work).stream()
        for n in range(1, 10):
            feeder(at_work).give(n, n=n)
        await wait_until_async(lambda: 6 in seen)
        await asyncio.sleep(0)
        assert (seen, at_work.backlog, stream.handled) == ([1, 2, 5, 6], 0, 6)
        assert feeder(at_work).owner.handled_up_to[-1] == 6
        await at_work.stop(1.0)

    run(lambda: None, test)


def test_a_stream_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it is noted that there is something to tell, only the end of a turn says more, or the end of the stream."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        def handled(owner: Owner, stream: Stream) -> None:
            stream.is_noted = True
            owner.handled_up_to.append(stream.handled)

        monkeypatch.setattr(Owner, "handled", handled)

        async def function(n: int) -> None:
            if n == 8:
                at_work.forget(stream)

        at_work = Listening(surroundings, listener(function))
        stream = feeder(at_work).stream()
        for n in range(1, 6):
            feeder(at_work).give(n, n=n)
        await wait_until_async(lambda: at_work.handled == 5)
        assert feeder(at_work).owner.handled_up_to == [1, 5]
        for n in range(6, 10):
            feeder(at_work).give(n, n=n)
        await wait_until_async(lambda: at_work.handled == 8)
        await at_work.stop(1.0)
        assert feeder(at_work).owner.handled_up_to == [1, 5, 8]

    run(lambda: None, test)


def test_it_tells_when_it_has_caught_up() -> None:
    """Each time nothing is left to do, whoever feeds it is told, and it is not slow any more."""

    async def function(number: int) -> None: ...

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        await wait_until_async(lambda: surroundings.caught_up_count == 1)
        listening.is_slow = True
        give(listening, number=1)
        give(listening, number=2)
        await wait_until_async(lambda: surroundings.caught_up_count == 2)
        assert not listening.is_slow

    run(function, test)


def test_dropped_events_are_reported_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    """Events of best effort for which there is no room are counted, and the first and every thousandth is logged."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for count in (1, 998, 1, 1, 2500):
            listening.drop(count)
        assert listening.counts["dropped"] == 3501
        assert [record.args[2] for record in caplog.records if isinstance(record.args, tuple)] == [1, 1000, 3501]

    run(lambda message: None, test)


def test_what_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A listener for which many bytes wait is full; streams that starve for it look again once there is room."""
    monkeypatch.setattr(module, "MAX_BYTES", 100)
    gate = asyncio.Event()

    async def function(what: str) -> None:
        await gate.wait()

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for _ in range(4):
            give(listening, what="x" * 50)
        assert listening.is_full
        listening.starve(feeder(listening).stream())
        gate.set()
        await wait_until_async(lambda: listening.handled == 4)
        assert (listening.backlog, listening.backlog_bytes, feeder(listening).owner.looked) == (0, 0, 1)

    run(function, test)


def test_partitions_side_by_side() -> None:
    """With `concurrency` several partitions are handled at once, and never two events of one."""
    at_once: set[tuple[int, int]] = set()
    most = 0

    async def function(which: int, number: int) -> None:
        nonlocal most
        assert which not in {each for each, _ in at_once}
        at_once.add((which, number))
        most = max(most, len(at_once))
        await asyncio.sleep(0.001)
        at_once.remove((which, number))

    async def main() -> None:
        several = replace(listener(function), concurrency=3)
        listening = Listening(Surroundings(), several)
        for number in range(10):
            for which in range(5):
                give(listening, which=which, number=number, partition=which)
        await wait_until_async(lambda: listening.handled == 50)
        assert most == 3
        assert listening.counts["failed"] == 0
        await listening.stop(1.0)

    asyncio.run(main())


def test_one_event_of_a_key_at_a_time() -> None:
    """A stream that takes the place of another waits until that one's event at hand is finished."""
    gate, seen = asyncio.Event(), list[str]()

    async def function(message: EventMessage) -> None:
        seen.append(message.id)
        await gate.wait()

    async def main() -> None:
        listening = Listening(Surroundings(), replace(listener(function), concurrency=2))
        give(listening, 1)
        await wait_until_async(lambda: seen)
        old = feeder(listening).stream()
        listening.forget(old)
        other = Feeder(listening)
        other.give(2)
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen == ["id-1"]
        gate.set()
        await wait_until_async(lambda: seen == ["id-1", "id-2"])
        await listening.stop(1.0)

    asyncio.run(main())


def test_hooks_are_told() -> None:
    """Hooks before and after get the event and the listener's name."""
    told: list[Any] = []

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        surroundings.hooks.add("before_event_execution", lambda **details: told.append(("before", details)))
        surroundings.hooks.add("after_event_execution", lambda **details: told.append(("after", details)))
        give(listening)
        await wait_until_async(lambda: listening.handled)
        message = told[0][1]["event_message"]
        details = {"client": "the client", "event_message": message, "listener_name": "greeter"}
        assert told == [("before", details), ("handler", message.id), ("after", details)]

    run(lambda message: told.append(("handler", message.id)), test)


# What goes wrong


async def fail(message: EventMessage) -> None:
    raise ValueError("no luck")


def test_an_error_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With ACKNOWLEDGE_AND_LOG the next event is handled all the same, and the failed one counts as handled."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for number in (1, 2):
            give(listening, number)
        await wait_until_async(lambda: listening.handled == 2)
        assert dict(listening.counts) == {"failed": 2}
        assert "The listener greeter failed on <EventMessage auth.seen() id=id-1>" in caplog.text
        assert "no luck" in caplog.text
        assert (surroundings.fatal, feeder(listening).owner.handled_up_to[-1]) == ([], 2)

    run(fail, test)


def test_shutdown_on_an_error() -> None:
    """With SHUTDOWN whoever runs the worker is told, nothing more is handled, and the delivery is on record."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for number in (1, 2):
            give(listening, number)
        await wait_until_async(lambda: surroundings.fatal)
        owner = feeder(listening).owner
        assert [(name, str(error)) for name, error in surroundings.fatal] == [("greeter", "no luck")]
        assert (owner.started, owner.handled_up_to, owner.let_go_of) == ([(1, 1)], [], 1)
        assert listening.handled == 0

    run(fail, test, OnError.SHUTDOWN)


def test_a_retry_succeeds(monkeypatch: pytest.MonkeyPatch) -> None:
    """With RETRY the event is given again, and says so; the next of its partition waits for it, others do not."""
    monkeypatch.setattr(module, "FIRST_BACKOFF", 20 * MS)
    seen: list[tuple[str, int, bool]] = []

    async def function(message: EventMessage) -> None:
        seen.append((message.id, message.deliveries, message.redelivered))
        if message.id == "id-1" and message.deliveries < 3:
            raise ValueError("not yet")

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening, 1)
        give(listening, 2)
        give(listening, 3, partition=1)
        await wait_until_async(lambda: listening.handled == 3)
        assert seen == [
            ("id-1", 1, False), ("id-3", 1, False), ("id-1", 2, True), ("id-1", 3, True), ("id-2", 1, False)
        ]  # fmt: skip
        assert dict(listening.counts) == {"failed": 2, "retried": 2, "redelivered": 2}
        assert feeder(listening).owner.started == [(1, 2), (1, 3)]

    run(function, test, OnError.RETRY)


def test_a_listener_stops_after_its_deliveries(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """With STOP_LISTENER an event is tried again, then set aside; nothing more is handled, and the worker goes on."""
    monkeypatch.setattr(module, "FIRST_BACKOFF", 1 * MS)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening, 1)
        give(listening, 2)
        await wait_until_async(lambda: surroundings.stopped)
        owner = feeder(listening).owner
        assert owner.buried == [(1, 5, "ValueError: no luck")]
        assert (listening.stopped_by, surroundings.stopped) == ("ValueError: no luck", [listening])
        await listening.stop(None)
        assert (listening.handled, listening.backlog, surroundings.fatal) == (1, 1, [])
        for number in range(1, 5):
            assert f"delivery {number} of 5. It is tried again in {2 ** (number - 1) / 1000:g} s" in caplog.text
        assert "delivery 5 of 5. It was the last one" in caplog.text

    run(fail, test, OnError.STOP_LISTENER)


def test_several_at_once_stop_a_listener_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """With more than one at hand the first that fails for good stops it; the others are left to the group."""
    monkeypatch.setattr(module, "FIRST_BACKOFF", 1 * MS)

    async def test(_: Listening, surroundings: Surroundings) -> None:
        listening = Listening(surroundings, replace(listener(fail, OnError.STOP_LISTENER), concurrency=4))
        for partition in range(4):
            feeder(listening).give(partition=partition)
        await wait_until_async(lambda: surroundings.stopped)
        await listening.stop(None)
        owner = feeder(listening).owner
        assert surroundings.stopped == [listening]
        assert owner.buried
        assert len(owner.buried) + owner.let_go_of == 4

    run(fail, test)


@pytest.mark.parametrize("policy", [OnError.SHUTDOWN, OnError.STOP_LISTENER, OnError.RETRY])
@pytest.mark.parametrize("decorated", [False, True])
def test_an_event_that_lacks_an_argument(policy: OnError, decorated: bool, caplog: pytest.LogCaptureFixture) -> None:
    """It is set aside at once, whatever the policy, with the name of what it lacks; the next one is handled."""
    seen: list[str] = []

    async def function(message: EventMessage, username: str, email: str) -> None:
        seen.append(email)

    @functools.wraps(function)
    async def wrapper(*args: Any, **kwargs: Any) -> None:
        await function(*args, **kwargs)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening, 1, username="sally")
        give(listening, 2, username="harry", email="h@x")
        await wait_until_async(lambda: listening.handled == 2)
        [(sequence, deliveries, error)] = feeder(listening).owner.buried
        assert (sequence, deliveries) == (1, 1)
        assert error.startswith("InvalidEventArguments: greeter needs the argument 'email', which the event does not")
        assert (seen, surroundings.fatal, surroundings.stopped) == (["h@x"], [], [])
        assert dict(listening.counts) == {"invalid": 1, "buried": 1}
        assert "is not given to the listener greeter: greeter needs the argument 'email'" in caplog.text

    run(wrapper if decorated else function, test, policy)


@pytest.mark.parametrize("policy", [OnError.RETRY, OnError.SHUTDOWN])
def test_deliveries_end(monkeypatch: pytest.MonkeyPatch, policy: OnError) -> None:
    """A poisonous event is set aside after five deliveries, with its error, and holds nothing up for ever."""
    monkeypatch.setattr(module, "FIRST_BACKOFF", 1 * MS)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        if policy is OnError.SHUTDOWN:  # four workers were stopped by it before this one
            feeder(listening).stream(doubtful=1)
            feeder(listening).owner.deliveries[1] = 4
        give(listening, 1)
        await wait_until_async(lambda: listening.handled == 1)
        owner = feeder(listening).owner
        assert owner.buried == [(1, 5, "ValueError: no luck")]
        assert owner.deliveries == {1: 5}
        assert listening.counts["buried"] == 1
        assert len(surroundings.fatal) == (policy is OnError.SHUTDOWN)

    run(fail, test, policy)


def test_what_ended_its_process_is_set_aside() -> None:
    """An event whose every delivery ended the process is set aside without being given once more."""
    seen: list[Any] = []

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        feeder(listening).stream(doubtful=1)
        feeder(listening).owner.deliveries[1] = 5
        give(listening, 1)
        give(listening, 2)
        await wait_until_async(lambda: listening.handled == 2)
        assert [message.id for message in seen] == ["id-2"]
        assert [row[:2] for row in feeder(listening).owner.buried] == [(1, 5)]

    run(lambda message: seen.append(message), test)


def test_doubtful_events_are_recorded_first() -> None:
    """What somebody else may have begun is given as a redelivery, each start on record before it."""
    seen: list[Any] = []

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        feeder(listening).stream(doubtful=2)
        for number in (1, 2, 3):
            give(listening, number)
        await wait_until_async(lambda: listening.handled == 3)
        assert [(message.id, message.deliveries) for message in seen] == [("id-1", 2), ("id-2", 2), ("id-3", 1)]
        assert feeder(listening).owner.started == [(1, 2), (2, 2)]

    run(lambda message: seen.append(message), test)


class Unspeakable(Exception):
    """An error that cannot be put into words."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("kind", [Unspeakable, type("Odd", (BaseException,), {"__str__": Unspeakable.__str__})])
def test_an_error_without_words(monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]) -> None:
    """An error whose text raises is a failure as any other; the listener goes on."""
    monkeypatch.setattr(module, "FIRST_BACKOFF", 1 * MS)

    def raises(message: EventMessage) -> None:
        raise kind

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening, 1)
        give(listening, 2)
        await wait_until_async(lambda: listening.handled == 2)
        buried = feeder(listening).owner.buried
        assert [row[:2] for row in buried] == [(1, 5), (2, 5)]
        assert all("raised RuntimeError>" in error for _, _, error in buried)
        assert surroundings.fatal == []

    run(raises, test, OnError.RETRY)


def test_a_fault_of_ours_is_not_silent(caplog: pytest.LogCaptureFixture) -> None:
    """Should a listener's task end by an error, it leaves its group: it must not go on as if it listened."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        def broken(stream: Stream) -> None:
            raise KeyError("our own")

        feeder(listening).owner.handled = broken  # type: ignore[method-assign]
        give(listening, 1)
        await wait_until_async(lambda: surroundings.stopped)
        assert "The listener greeter cannot go on: this is a fault of ours" in caplog.text
        assert listening.stopped_by == "KeyError: 'our own'"

    run(lambda message: None, test)


def test_what_is_given_again_is_given_alone() -> None:
    """Side by side or not: of the events that may have ended a process, one at a time is on record as begun."""
    at_hand: list[str] = []
    most: list[int] = []

    async def handle(message: EventMessage) -> None:
        at_hand.append(message.id)
        most.append(len(at_hand))
        await asyncio.sleep(0)
        at_hand.remove(message.id)

    async def main() -> None:
        listening = Listening(Surroundings(), replace(listener(handle), concurrency=4))
        for number in range(1, 9):
            feeder(listening).stream(number, doubtful=8)
            feeder(listening).give(number, partition=number)
        await wait_until_async(lambda: listening.handled == 8)
        assert (len(feeder(listening).owner.started), max(most)) == (8, 1)
        for number in range(11, 19):
            feeder(listening).give(number, partition=number)
        await wait_until_async(lambda: listening.handled == 16)
        assert max(most) > 1
        await listening.stop(5.0)

    asyncio.run(main())


def test_doubt_alone_sets_nothing_aside() -> None:
    """With `max_deliveries=1`, too, what somebody may have begun is given; only a start on record counts."""
    seen: list[EventMessage] = []

    async def main() -> None:
        listening = Listening(Surroundings(), replace(listener(lambda message: seen.append(message)), max_deliveries=1))
        feeder(listening).stream(doubtful=2)
        feeder(listening).owner.deliveries[2] = 1
        give(listening, 1)
        give(listening, 2)
        await wait_until_async(lambda: listening.handled == 2)
        assert [(message.id, message.redelivered) for message in seen] == [("id-1", True)]
        assert [row[:2] for row in feeder(listening).owner.buried] == [(2, 1)]
        await listening.stop(5.0)

    asyncio.run(main())


def test_what_is_not_ours_any_more_is_not_begun() -> None:
    """Where the publisher says that the partition is somebody else's, the handler is not called."""
    seen: list[Any] = []

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        feeder(listening).stream(doubtful=1)
        feeder(listening).owner.is_ours = False
        give(listening, 1)
        await wait_until_async(lambda: feeder(listening).owner.let_go_of)
        assert (seen, listening.handled) == ([], 0)

    run(lambda message: seen.append(message), test)


@pytest.mark.parametrize("where", ["loop", "thread"])
@pytest.mark.parametrize("error", [asyncio.CancelledError("mine"), SystemExit(3)])
def test_what_would_end_a_task_is_an_error_like_others(where: str, error: BaseException) -> None:
    """A handler's own CancelledError or SystemExit ends neither the listener, unnoticed, nor the loop."""

    def in_thread(message: EventMessage) -> None:
        raise error

    async def on_loop(message: EventMessage) -> None:
        raise error

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening)
        await wait_until_async(lambda: surroundings.fatal)
        assert [str(fatal) for _, fatal in surroundings.fatal] == [f"greeter raised {type(error).__name__}: {error}"]

    run(on_loop if where == "loop" else in_thread, test, OnError.SHUTDOWN)


def test_invalid_arguments_are_not_the_handlers_fault() -> None:
    """What the event's declaration does not allow never reaches the handler, stops no worker, and is set aside."""
    seen: list[Any] = []

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening, invalid=1)
        await wait_until_async(lambda: listening.handled)
        assert (seen, dict(listening.counts), surroundings.fatal) == ([], {"invalid": 1, "buried": 1}, [])
        assert feeder(listening).owner.buried == [(1, 1, "ValidationError: it is invalid")]

    run(lambda message: seen.append(message), test)


# The end


def test_stopping_finishes_the_event_at_hand() -> None:
    """What is being handled is finished, what waits is not begun."""
    gate, seen = asyncio.Event(), list[str]()

    async def function(message: EventMessage) -> None:
        seen.append(message.id)
        await gate.wait()
        seen.append("done")

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for number in (1, 2, 3):
            give(listening, number)
        await wait_until_async(lambda: seen)
        stopping = asyncio.ensure_future(listening.stop(5.0))
        await asyncio.sleep(0)
        gate.set()
        await stopping
        assert seen == ["id-1", "done"]

    run(function, test)


def test_stopping_is_bounded() -> None:
    """A handler that does not end is cancelled."""
    seen: list[str] = []

    async def function(message: EventMessage) -> None:
        seen.append("begun")
        try:
            await asyncio.Event().wait()
        finally:
            seen.append("cancelled")

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening)
        await wait_until_async(lambda: seen)
        await listening.stop(1 * MS)
        assert seen == ["begun", "cancelled"]
        assert surroundings.fatal == []

    run(function, test, OnError.SHUTDOWN)


def test_stopping_does_not_wait_for_a_retry() -> None:
    """A pause before the next delivery ends with the listener."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening)
        await wait_until_async(lambda: listening.counts["retried"])
        await asyncio.wait_for(listening.stop(30.0), module.FIRST_BACKOFF / 2)
        assert listening.counts["failed"] == 1

    run(fail, test, OnError.RETRY)


def test_stopping_an_idle_listener() -> None:
    """Where nothing is being handled, it is over at once."""

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        await wait_until_async(lambda: surroundings.caught_up_count)

    run(fail, test)


# The context of an execution, and what is awaited


TENANT: ContextVar[str] = ContextVar("tenant", default="nobody")


def undecided(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as many do: whether the function is `async def` is neither asked nor shown."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def forgetful(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate with an `async def` that does not await the function."""

    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper


def forgetful_later(function: Callable[..., Any]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        await asyncio.sleep(0)
        return function(*args, **kwargs)

    return wrapper


class Object:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    async def __call__(self, message: EventMessage, n: int) -> None:
        await self.function(message, n)


FORMS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "async def": lambda function: function,
    "decorated": undecided,
    "async def that does not await": forgetful,
    "async def that does not await, later": forgetful_later,
    "lambda": lambda function: lambda message, n: function(message, n),
    "partial": lambda function: functools.partial(lambda tag, message, n: function(message, n), "tag"),
    "object": Object,
    "partial of an object": lambda function: functools.partial(Object(function)),
    "method": lambda function: Object(function).__call__,
    "future": lambda function: undecided(lambda message, n: Promise(function(message, n))),
}


class Promise:
    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine

    def __await__(self) -> Any:
        return self.coroutine.__await__()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("hooked", [False, True])
def test_what_a_listener_returns_is_awaited(form: str, hooked: bool) -> None:
    """Whatever form it has: an event counts as handled when what the listener returned has ended, and not before."""
    gate, seen = asyncio.Event(), list[int]()

    async def function(message: EventMessage, n: int) -> None:
        seen.append(n)
        await gate.wait()
        seen.append(-n)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        if hooked:
            surroundings.hooks.add("before_event_execution", lambda: None)
        give(listening, n=1)
        await wait_until_async(lambda: seen)
        assert (seen, listening.handled) == ([1], 0)
        gate.set()
        await wait_until_async(lambda: listening.handled)
        assert (seen, listening.counts["failed"]) == ([1, -1], 0)

    run(FORMS[form](function), test)


def make_listener(form: str, seen: list[str]) -> Callable[..., Any]:
    """Return a listener that says which tenant it is called for, and then sets another one."""

    def handle(n: int) -> None:
        seen.append(TENANT.get())
        TENANT.set(f"left by {n}")

    async def handle_at_once(message: EventMessage, n: int) -> None:
        handle(n)

    async def handle_later(message: EventMessage, n: int) -> None:
        await asyncio.sleep(0)
        handle(n)
        await asyncio.sleep(0)

    def handle_in_thread(message: EventMessage, n: int) -> None:
        handle(n)

    forms = {"at once": handle_at_once, "later": handle_later, "def": handle_in_thread}
    return forms[form] if form in forms else undecided(handle_later)


LISTENERS = ["at once", "later", "def", "hidden"]


@pytest.mark.parametrize("form", LISTENERS)
def test_each_event_has_a_context_of_its_own(form: str) -> None:
    """What a listener sets is seen by no other event, also of its partition, and by nobody around."""
    seen: list[str] = []

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        TENANT.set("whoever gives")
        for n in range(4):
            give(listening, n=n)
        await wait_until_async(lambda: listening.handled == 4)
        assert TENANT.get() == "whoever gives"

    run(make_listener(form, seen), test)
    assert seen == ["nobody"] * 4


@pytest.mark.parametrize("form", LISTENERS)
@pytest.mark.parametrize("before_is_async", [False, True])
def test_hooks_share_the_context_of_the_event(form: str, before_is_async: bool) -> None:
    """What a hook sets, the listener sees, and the hook after it sees what that has set; `def` and `async def`."""
    seen: list[str] = []

    def before(event_message: EventMessage) -> None:
        seen.append(TENANT.get())
        TENANT.set(f"tenant {event_message.kwargs['n']}")

    async def before_async(event_message: EventMessage) -> None:
        before(event_message)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        surroundings.hooks.add("before_event_execution", before_async if before_is_async else before)
        surroundings.hooks.add("after_event_execution", lambda: seen.append(TENANT.get()))
        for n in range(2):
            give(listening, n=n)
        await wait_until_async(lambda: listening.handled == 2)

    run(make_listener(form, seen), test)
    assert seen == ["nobody", "tenant 0", "left by 0", "nobody", "tenant 1", "left by 1"]


@pytest.mark.parametrize("form", ["async def", "def", "hidden"])
@pytest.mark.parametrize("kind", ODD)
def test_whatever_a_listener_raises_it_goes_on(form: str, kind: str) -> None:
    """Each odd exception is an error of its event, under the policy; the next event is handled."""
    seen: list[int] = []

    async def fail(message: EventMessage, n: int) -> None:
        seen.append(n)
        if n == 0:
            raise ODD[kind]()

    def fail_in_thread(message: EventMessage, n: int) -> None:
        seen.append(n)
        if n == 0:
            raise ODD[kind]()

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        for n in range(2):
            give(listening, n=n)
        await wait_until_async(lambda: listening.handled == 2)
        assert listening.counts["failed"] == 1

    run({"async def": fail, "def": fail_in_thread, "hidden": undecided(fail)}[form], test)
    assert seen == [0, 1]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("hooked", [False, True])
def test_a_listener_that_cancels_its_task(waits: bool, hooked: bool) -> None:
    """It ends neither the listener nor what is handled next, whether the cancelling comes out at once or later."""
    seen: list[int] = []

    async def function(message: EventMessage, n: int) -> None:
        seen.append(n)
        if n == 0:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            if waits:
                await asyncio.sleep(1)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        if hooked:
            surroundings.hooks.add("before_event_execution", lambda: None)
        for n in range(3):
            give(listening, n=n)
        await wait_until_async(lambda: listening.handled == 3)
        assert listening.counts["failed"] == waits
        give(listening, n=3)
        await wait_until_async(lambda: listening.handled == 4)

    run(function, test)
    assert seen == [0, 1, 2, 3]


@pytest.mark.parametrize("fails", [False, True])
def test_a_listener_whose_task_is_cancelled_later(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a timer that a handler forgot, say: it is not deaf from then on, in whatever it is at that moment."""
    monkeypatch.setattr("lightbus.events.listener_runner.FIRST_BACKOFF", 0.02)
    tasks: list[asyncio.Task[Any]] = []
    seen: list[int] = []

    async def function(message: EventMessage, n: int) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.append(task)
        if fails and message.deliveries == 1:
            raise ValueError
        seen.append(n)

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        owner = feeder(listening).owner
        start, bury = owner.start, owner.bury

        async def slowly(what: Any, *args: Any) -> Any:
            tasks[-1].cancel()
            await asyncio.sleep(0)
            return await what(*args)

        monkeypatch.setattr(owner, "start", functools.partial(slowly, start))
        monkeypatch.setattr(owner, "bury", functools.partial(slowly, bury))
        for n in range(3):
            give(listening, n=n)
            await wait_until_async(lambda n=n: listening.handled == n + 1)  # type: ignore[misc]
            await asyncio.sleep(0)
            tasks[-1].cancel()  # it waits for the next one
            await asyncio.sleep(0)
        give(listening, surplus=0)
        await wait_until_async(lambda: listening.handled == 4)
        assert listening.counts["buried"] == 1
        assert listening.stopped_by is None

    run(function, test, OnError.RETRY)
    assert seen == [0, 1, 2]


def test_a_listener_ends_with_its_loop() -> None:
    """A loop that ends cancels everything; a listener that waits then is cancelled, and holds nothing up."""
    began: list[str] = []

    async def function(message: EventMessage, n: int) -> None:
        began.append("waits")
        await asyncio.sleep(10)

    async def main() -> None:
        listening = Listening(Surroundings(), listener(function))
        give(listening, n=0)
        await wait_until_async(lambda: began)

    asyncio.run(main())
    assert began == ["waits"]


def test_a_listener_that_is_a_generator(caplog: pytest.LogCaptureFixture) -> None:
    """Calling it runs nothing of it: it has failed, and is not acknowledged as if it had run."""

    def function(message: EventMessage, n: int) -> Any:
        yield n

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening, n=0)
        await wait_until_async(lambda: listening.handled)
        assert listening.counts["failed"] == 1

    run(function, test)
    assert "has a `yield` in it, so that calling it runs nothing of it" in caplog.text


def test_the_traceback_is_that_of_the_listener(caplog: pytest.LogCaptureFixture) -> None:
    """The log does not show how we got there."""

    async def function(message: EventMessage, n: int) -> None:
        raise ValueError("oh")

    async def test(listening: Listening, surroundings: Surroundings) -> None:
        give(listening, n=0)
        await wait_until_async(lambda: listening.handled)

    run(function, test)
    assert "ValueError: oh" in caplog.text
    assert "/lightbus/events/listener_runner.py" not in caplog.text


@pytest.mark.parametrize("name", ["function", "self", "message", "kwargs", "args", "timeout", "loop", "executor"])
@pytest.mark.parametrize("is_async", [False, True])
def test_arguments_of_any_name(name: str, is_async: bool) -> None:
    """No argument's name is taken by our own."""
    seen: list[Any] = []
    scope: dict[str, Any] = {"seen": seen}
    exec(f"{'async ' if is_async else ''}def handle(event_message, {name}): seen.append({name})", scope)
    given(scope["handle"], **{name: 5})
    assert seen == [5]

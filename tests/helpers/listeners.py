"""A running listener, with a process around it and streams that feed it, both of which record their calls."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any

from helpers import wait_until_async
from lightbus.config import Config
from lightbus.core.streams import Entry, Stream
from lightbus.events.listening.listener_context import ListenerContext
from lightbus.events.listening.listener_runner import ListenerRunner
from lightbus.exceptions import ValidationError
from lightbus.listener import Listener, OnError
from lightbus.message import EventMessage
from lightbus.service.api import ApiRegistry
from lightbus.service.hooks import HookRegistry
from lightbus.wire import envelope
from lightbus.wire.envelope import Record

__all__ = ["Context", "Feeder", "Source", "fail", "feeder", "give", "given", "listener", "run", "undecided"]


class Context(ListenerContext):
    """The process around a listener, which records its calls."""

    def __init__(self, casts: bool = True) -> None:
        self.fatal: list[tuple[str, Exception]] = []
        self.stopped: list[ListenerRunner] = []
        self.caught_up_count = 0
        super().__init__(
            config=Config.model_validate({"apis": {"default": {"cast_values": casts}}}),
            apis=ApiRegistry(),
            hooks=HookRegistry(),
            client="the client",
            executor=None,
            on_fatal=lambda listener, error: self.fatal.append((listener.name, error)),
            caught_up=self._note_caught_up,
        )

    def runner(self, listener: Listener) -> ListenerRunner:
        """Return a running listener in this process."""
        return ListenerRunner(self, listener, lambda runner, reason: self.stopped.append(runner))

    def check_of(
        self, api: str, event: str, *, casts: bool = False
    ) -> Callable[[dict[str, Any]], dict[str, Any]] | None:
        def check(kwargs: dict[str, Any]) -> dict[str, Any]:
            if "invalid" in kwargs:
                raise ValidationError("it is invalid")
            return kwargs

        return check

    def _note_caught_up(self) -> None:
        self.caught_up_count += 1


class Source:
    """The source of a stream: records its calls, and answers as a publisher would."""

    publisher = "p" * 16

    def __init__(self) -> None:
        self.started: list[tuple[int, int]] = []
        self.dead_letters: list[tuple[int, int, str]] = []
        self.acked: list[int] = []
        self.retried = 0
        self.fetched = 0
        self.turns = 0
        self.deliveries: dict[int, int] = {}
        self.is_ours = True

    async def record_delivery(self, stream: Stream, entry: Entry, at_least: int) -> int:
        if not self.is_ours:
            return 0
        self.started.append((entry.sequence, at_least))
        number = self.deliveries[entry.sequence] = max(self.deliveries.get(entry.sequence, 0), at_least - 1) + 1
        return number

    async def dead_letter(self, stream: Stream, entry: Entry, deliveries: int, error: str) -> bool:
        self.dead_letters.append((entry.sequence, deliveries, error))
        return self.is_ours

    def ack(self, stream: Stream) -> None:
        self.acked.append(stream.handled)

    def after_turn(self, stream: Stream) -> None:
        self.turns += 1

    def retry(self, stream: Stream) -> None:
        self.retried += 1

    def fetch_more(self, stream: Stream) -> None:
        self.fetched += 1

    def was_handled(self, key: Any, sequence: int) -> None:
        raise AssertionError("nobody else brings events")


class Feeder:
    """Gives events to a listener, as the streams of a publisher do: those of one partition are one stream."""

    def __init__(self, runner: ListenerRunner) -> None:
        self.source = Source()
        self._runner = runner
        self._streams: dict[int, Stream] = {}
        self._sequence = 0

    def stream(self, partition: int = 0, *, possibly_delivered: int = 0) -> Stream:
        if partition not in self._streams:
            key = ("j", "seen", partition)
            self._streams[partition] = Stream(
                key, self.source, cursor=self._sequence, possibly_delivered=possibly_delivered
            )
        return self._streams[partition]

    def give(self, which: int = 1, /, *, partition: int = 0, **kwargs: Any) -> None:
        stream = self.stream(partition)
        self._sequence += 1
        record = envelope.encode_record(Record(f"id-{which}", 1, 0.5, kwargs))
        assert stream.live([[self._sequence, stream.position, record]]) == 1
        self._runner.queue.ready(stream, 1, len(record))


FEEDERS: dict[ListenerRunner, Feeder] = {}


def feeder(runner: ListenerRunner) -> Feeder:
    """Return the feeder of a listener."""
    if runner not in FEEDERS:
        FEEDERS[runner] = Feeder(runner)
    return FEEDERS[runner]


def give(runner: ListenerRunner, which: int = 1, /, **kwargs: Any) -> None:
    """Give a listener an event."""
    feeder(runner).give(which, **kwargs)


def listener(function: Callable[..., Any], on_error: OnError = OnError.ACKNOWLEDGE_AND_LOG) -> Listener:
    """Return a listener of auth.seen."""
    return Listener(api="auth", events=("seen",), name="greeter", function=function, on_error=on_error)


def run(
    function: Callable[..., Any],
    test: Callable[[ListenerRunner, Context], Awaitable[None]],
    on_error: OnError = OnError.ACKNOWLEDGE_AND_LOG,
    **options: Any,
) -> None:
    """Run a test with a running listener, and stop it."""

    async def main() -> None:
        context = Context(**options)
        runner = context.runner(listener(function, on_error))
        await test(runner, context)
        await runner.stop(5.0)

    asyncio.run(main())


def given(function: Callable[..., Any], /, casts: bool = True, **kwargs: Any) -> None:
    """Let a listener handle one event with these arguments."""

    async def test(runner: ListenerRunner, context: Context) -> None:
        give(runner, **kwargs)
        await wait_until_async(lambda: runner.handled)
        assert runner.queue.counts["failed"] == 0

    run(function, test, casts=casts)


async def fail(message: EventMessage) -> None:
    """Handle nothing."""
    raise ValueError("no luck")


def undecided(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate without regard for `async def`, as many decorators do."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return wrapper

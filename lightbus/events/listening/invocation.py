"""The call of a listener's function: the message of an event, its arguments, the hooks around it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from ...core.streams import Entry, Stream
from ...exceptions import LightbusException, PayloadTooLarge, ProtocolError
from ...listener import Listener
from ...message import EventMessage, event_message, trace_sent
from ...service.batch_handlers import BatchHandler
from ...service.execution import Execution, check_ran, in_thread, returns_nothing, runs_on_loop, waits_nowhere
from ...service.forks import FORKS, end_child
from ...service.handlers import Handler
from ...tracing import Trace, trace_of_execution
from ...typing import Kwargs
from ...wire import envelope
from ...wire.envelope import Record
from ...wire.event_names import declared_event
from ...wire.sizes import size_left_out
from .delays import Delays, note_delay
from .listener_context import ListenerContext

__all__ = ["TURN", "Invocation", "Turn"]

TURN = 128
"""Events of one stream that are handled before another has its turn, and the rest of the loop."""

AHEAD = 256 * 1024
"""Bytes of the events that wait of a stream, up to which they are decoded together."""


LONG = 0.005
"""Seconds that events are handled in one run: what else the loop has to do waits for it."""


@dataclass(slots=True, kw_only=True)
class Turn:
    """
    What the events that are handled in a row have in common.

    Attributes:
        api, event, journal, publisher: what they are, and where they come from.
        check: completes and checks their arguments, if anything is to be done.
        function: the function to call.
        delays: how long it took until the latest of them were handled.
        is_plain: whether it is only to be called, waits for nothing and returns nothing: then it needs no task of its
            own, and nothing else happens before its end.
        ahead: events that were decoded ahead of their turn, by their sequences.
        decodes_ahead: whether that is tried: not again where one of them was no event.
        count: how many they were until now.

    """

    api: str
    event: str
    journal: str
    publisher: str
    check: Callable[[Kwargs], Kwargs] | None
    function: Callable[..., Any]
    delays: deque[float]
    is_plain: bool
    ahead: dict[int, Record] = field(default_factory=dict)
    decodes_ahead: bool = True
    count: int = 0


class Invocation:
    """
    How one listener's function is called. Only touched from the node's loop.

    Args:
        context: of the process.
        listener: the listener.
        delays: where it is noted how long it took until its events were handled.

    """

    def __init__(self, context: ListenerContext, listener: Listener, delays: Delays) -> None:
        self._context = context
        self._listener = listener
        self._delays = delays
        self._hooks = context.hooks
        casts = context.casts(listener.api)
        self._casts_whole = casts and listener.batch > 0
        self.handler: Handler | BatchHandler
        if listener.batch:
            self.handler = BatchHandler(listener.function, name=listener.name)
        else:
            strict = context.is_strict(listener.api)
            self.handler = Handler(
                listener.function, name=listener.name, api_name=listener.api, casts=casts, strict=strict
            )
        self._is_async = runs_on_loop(listener.function)
        self._is_plain = self._is_async and waits_nowhere(listener.function) and returns_nothing(listener.function)
        self._loop = asyncio.get_running_loop()

    def new_turn(self, stream: Stream) -> Turn:
        """Return what the events of a stream have in common, as things are now."""
        journal, event, _ = stream.key
        event = declared_event(event)
        return Turn(
            api=self._listener.api,
            event=event,
            journal=journal,
            publisher=stream.owner.publisher,
            check=self._context.check_of(self._listener.api, event, casts=self._casts_whole),
            function=self._listener.function,
            delays=self._delays.of(event, stream.owner.publisher),
            is_plain=self._is_plain and not self._is_hooked,
        )

    def message(self, stream: Stream, entry: Entry, deliveries: int, turn: Turn) -> EventMessage:
        """
        Return the message of an event. To each listener its own: a handler may change what it is given.

        Raises ProtocolError for an invalid event, PayloadTooLarge for one that was left out for its size.
        """
        sequence = entry[0]
        record = turn.ahead.pop(sequence, None)
        if record is None:
            try:
                record = _decode(entry, stream, turn)
            except ProtocolError:
                self._refuse_left_out(entry)
                raise
        id, version, published_at, kwargs, trace = record
        where = (turn.journal, sequence)
        return event_message(
            turn.api, turn.event, kwargs, version, id, where, deliveries, published_at, turn.publisher, trace
        )

    def _refuse_left_out(self, entry: Entry) -> None:
        size = size_left_out(entry.record)
        if size is not None:
            raise PayloadTooLarge(
                f"It takes {size} bytes, and a message to this process may have {self._context.max_message_size}. "
                "Raise network.max_message_size here, and have it tried again: lightbus dead retry."
            ) from None

    def arguments(self, message: EventMessage, turn: Turn) -> tuple[tuple[Any, ...], Kwargs]:
        """Return what the handler is called with. Raises LightbusException where that does not fit it."""
        if turn.check is not None:
            message.kwargs = turn.check(message.kwargs)
        return self.handler.arguments(message)

    def messages(self, entries: Sequence[Entry], turn: Turn) -> list[EventMessage]:
        """Return the messages of events that are given together. Raises LightbusException where one does not fit."""
        api, event, journal, publisher, check = turn.api, turn.event, turn.journal, turn.publisher, turn.check
        made = []
        for entry, values in zip(entries, envelope.decode_fields([entry[2] for entry in entries]), strict=True):
            id, version, published_at, kwargs, trace = values
            if check is not None:
                kwargs = check(kwargs)
            where = (journal, entry[0])
            made.append(event_message(api, event, kwargs, version, id, where, 1, published_at, publisher, trace))
        return made

    def run_through(
        self, entries: Sequence[Sequence[Any]], turn: Turn, cancelling: Callable[[], int]
    ) -> tuple[int, tuple[EventMessage, BaseException] | None]:
        """
        Call a function of which nothing else is to be done (`turn.is_plain`) for one event after another.

        Return how many were handled: all, unless the next one failed, which is returned with its error, or is to be
        given with more care, or the function has cancelled the task that it runs in (`cancelling`), or took `LONG`.
        """
        try:
            records = envelope.decode_fields([entry[2] for entry in entries])
        except ProtocolError:
            turn.is_plain = False  # in its turn it is found which of them is no event
            return 0, None
        api, event, journal, publisher = turn.api, turn.event, turn.journal, turn.publisher
        gives_message = self._gives_message([values[3] for values in records], turn)
        forks, handled, until = FORKS.count, 0, time.monotonic() + LONG
        for entry, (id, version, published_at, kwargs, trace) in zip(entries, records, strict=True):
            where = (journal, entry[0])
            message = event_message(api, event, kwargs, version, id, where, 1, published_at, publisher, trace)
            try:
                if gives_message is None:
                    args, kwargs = self.arguments(message, turn)
                else:
                    args = (message,) if gives_message else ()
            except LightbusException:
                turn.is_plain = False
                return handled, None
            try:
                # Nobody else's code runs in it, so it need not be in the context when it is called. To ask for the next
                # thing to wait for, of which there is none, costs less than to catch what tells the end.
                context = Context() if trace is None else _context_of(trace)
                context.run(next, turn.function(*args, **kwargs).__await__(), None)
            except BaseException as error:
                if FORKS.count != forks:
                    end_child(error)
                return handled, (message, error)
            if FORKS.count != forks:
                end_child()
            handled += 1
            if cancelling() or time.monotonic() >= until:
                break
        note_delay(turn.delays, records[handled - 1][2])
        return handled, None

    def note_delay(self, message: EventMessage) -> None:
        """Note how long it took until an event was handled, just now."""
        note_delay(self._delays.of(message.event_name, message.publisher), message.published_at)

    def _gives_message(self, several: Sequence[Kwargs], turn: Turn) -> bool | None:
        """Return whether all events are ready to be given, and with the message; None: each is to be looked at."""
        if turn.check is not None or not several or not isinstance(self.handler, Handler):
            return None
        return self.handler.gives_message(several)

    @property
    def _is_hooked(self) -> bool:
        return self._hooks.is_about("event_execution")

    async def execute(self, messages: Sequence[EventMessage], args: tuple[Any, ...], kwargs: Kwargs) -> None:
        """
        Call the hooks before it, for each event, the function, and the hooks after it, in one context.

        Raises what they raise.

        What of it runs on the loop does so in a task of its own: who cancels that later cancels no other event.
        """
        executor, function = self._context.executor, self._listener.function
        execution = Execution(self._loop, executor)
        if len(messages) == 1 and (trace := trace_sent(messages[0])) is not None:
            execution.run(trace_of_execution.set, trace)
        given = execution, messages, args, kwargs
        if self._is_hooked and self._is_async:
            await execution.apart(self._execute_on_loop(*given))
        elif self._is_hooked:
            # All in one thread: what a `def` hook does to its thread is there for the handler.
            try:
                await in_thread(self._loop, executor, self._execute_blocking, *given)
            except asyncio.CancelledError:
                execution.cancel()  # the thread may wait for the loop
                raise
        elif self._is_async:
            check_ran(function, await execution.apart(execution.call(function, args, kwargs, on_loop=True)))
        else:
            check_ran(function, await execution.call_in_thread(function, args, kwargs))

    async def _execute_on_loop(
        self, execution: Execution, messages: Sequence[EventMessage], args: tuple[Any, ...], kwargs: Kwargs
    ) -> None:
        function = self._listener.function
        with self._around(execution, messages):
            for message in messages:
                await self._hooks.run("before_event_execution", execution.call, **self._details(message))
            args, kwargs = self._after_hooks(messages, args, kwargs)
            check_ran(function, await execution.call(function, args, kwargs, on_loop=True))
            for message in messages:
                await self._hooks.run("after_event_execution", execution.call, **self._details(message))

    def _execute_blocking(
        self, execution: Execution, messages: Sequence[EventMessage], args: tuple[Any, ...], kwargs: Kwargs
    ) -> None:
        function = self._listener.function
        with self._around(execution, messages):
            for message in messages:
                self._hooks.run_blocking("before_event_execution", execution.call_blocking, **self._details(message))
            args, kwargs = self._after_hooks(messages, args, kwargs)
            check_ran(function, execution.call_blocking(function, args, kwargs))
            for message in messages:
                self._hooks.run_blocking("after_event_execution", execution.call_blocking, **self._details(message))

    def _after_hooks(
        self, messages: Sequence[EventMessage], args: tuple[Any, ...], kwargs: Kwargs
    ) -> tuple[tuple[Any, ...], Kwargs]:
        """Return what the function is called with once hooks may have changed it; of several it is the messages."""
        return self.handler.arguments(messages[0]) if len(messages) == 1 else (args, kwargs)

    @contextlib.contextmanager
    def _around(self, execution: Execution, messages: Sequence[EventMessage]) -> Iterator[None]:
        """Enter what wraps the handling of each event."""
        with contextlib.ExitStack() as stack:
            for message in messages:
                details = self._details(message)
                stack.enter_context(self._hooks.around("around_event_execution", execution.run, **details))
            yield

    def _details(self, message: EventMessage) -> dict[str, Any]:
        """Return the message that hooks get."""
        return {"client": self._context.client, "event_message": message, "listener_name": self._listener.name}


def _context_of(trace: Trace) -> Context:
    """Return a new context with the trace in which an event was fired."""
    context = Context()
    context.run(trace_of_execution.set, trace)
    return context


def _decode(entry: Entry, stream: Stream, turn: Turn) -> Record:
    """
    Return an event, and note ahead what waits behind it: as much as one turn may come to and memory does not mind.

    Raises ProtocolError where it is none.
    """
    turn.ahead.clear()  # what waited was dropped meanwhile, and is another matter now
    if turn.decodes_ahead and stream.ready and stream.size <= AHEAD:
        entries = [entry, *itertools.islice(stream.ready, TURN)]
        try:
            record, *others = envelope.decode_records([each[2] for each in entries])
        except ProtocolError:
            turn.decodes_ahead = False  # in its turn it is found which of them is no event
        else:
            turn.ahead.update(zip([each[0] for each in entries[1:]], others, strict=True))
            return record
    return envelope.decode_record(entry[2])

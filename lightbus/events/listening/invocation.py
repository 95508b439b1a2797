"""The call of a listener's function: the message of an event, its arguments, the hooks around it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any

from ...core.streams import Entry, Stream
from ...exceptions import LightbusException, PayloadTooLarge, ProtocolError
from ...listener import Listener
from ...message import EventMessage, event_message, trace_sent
from ...service.batch_handlers import BatchHandler
from ...service.execution import Execution, check_ran, in_thread, never_suspends, returns_nothing, runs_on_loop
from ...service.forks import FORKS, end_child
from ...service.handlers import Handler
from ...tracing import Trace, trace_of_execution
from ...typing import Kwargs
from ...wire import envelope
from ...wire.envelope import Record
from ...wire.event_names import declared_event
from ...wire.sizes import size_left_out
from .delays import Delays
from .listener_context import ListenerContext

__all__ = ["TURN", "Invocation", "Turn"]

TURN = 128
"""Events of one stream that are handled before other streams, and other tasks of the loop, get a turn."""

AHEAD = 256 * 1024
"""Waiting events of a stream are decoded together if they have at most this many bytes."""


LONG = 0.005
"""Longest time, in seconds, for which events are handled in one run: other tasks of the loop wait for it."""


@dataclass(slots=True, kw_only=True)
class Turn:
    """
    The shared state of successive events of one stream.

    Attributes:
        api, event, journal, publisher: the API, the event name, the journal and the publisher of the events.
        check: completes and checks their arguments; None if there is nothing to do.
        function: the function to call.
        is_plain: whether the function never suspends and returns None, and there are no hooks: then it is called
            without a task.
        ahead: events that were decoded in advance, by sequence.
        decodes_ahead: whether to decode in advance; False after one of the events was invalid.
        count: number of events handled so far.

    """

    api: str
    event: str
    journal: str
    publisher: str
    check: Callable[[Kwargs], Kwargs] | None
    function: Callable[..., Any]
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
        self.delays = delays
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
        self._is_plain = self._is_async and never_suspends(listener.function) and returns_nothing(listener.function)
        self._loop = asyncio.get_running_loop()

    def new_turn(self, stream: Stream) -> Turn:
        """Return the state for successive events of a stream, by the present hooks and schemas."""
        journal, event, _ = stream.key
        event = declared_event(event)
        return Turn(
            api=self._listener.api,
            event=event,
            journal=journal,
            publisher=stream.owner.publisher,
            check=self._context.check_of(self._listener.api, event, casts=self._casts_whole),
            function=self._listener.function,
            is_plain=self._is_plain and not self._is_hooked,
        )

    def message(self, stream: Stream, entry: Entry, deliveries: int, turn: Turn) -> EventMessage:
        """
        Return the message of an event. Each listener gets its own, since a handler may change it.

        Raises ProtocolError for an invalid event, PayloadTooLarge for one that was left out because of its size.
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
                f"It takes {size} bytes, and this process accepts messages of {self._context.max_message_size} bytes. "
                "Raise network.max_message_size here, and deliver it again: lightbus dead retry, with its native id."
            ) from None

    def arguments(self, message: EventMessage, turn: Turn) -> tuple[tuple[Any, ...], Kwargs]:
        """Return the arguments for the handler. Raises LightbusException if they do not fit it."""
        if turn.check is not None:
            message.kwargs = turn.check(message.kwargs)
        return self.handler.arguments(message)

    def messages(self, entries: Sequence[Entry], turn: Turn) -> list[EventMessage]:
        """Return the messages of a batch of events. Raises LightbusException if one does not fit."""
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
        Call a plain function (`turn.is_plain`) for one event after another.

        Return how many were handled, and the event that failed with its error, if one did. Also stops early if the
        next event does not fit (`turn.is_plain` is then False), if the function has cancelled the task that it runs in
        (`cancelling`), or after `LONG`.
        """
        try:
            records = envelope.decode_fields([entry[2] for entry in entries])
        except ProtocolError:
            turn.is_plain = False  # they are decoded one by one instead, to find the invalid one
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
                # The coroutine is made outside of the context, since no code runs before its first step. `next` with a
                # default costs less than `send` and catching StopIteration; there is nothing to await.
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
        self.delays.note(event, publisher, records[handled - 1][2])
        return handled, None

    def _gives_message(self, several: Sequence[Kwargs], turn: Turn) -> bool | None:
        """Return whether the function takes the message, if all events fit as they are; None: check each event."""
        if turn.check is not None or not several or not isinstance(self.handler, Handler):
            return None
        return self.handler.gives_message(several)

    @property
    def _is_hooked(self) -> bool:
        return self._hooks.is_about("event_execution")

    async def execute(self, messages: Sequence[EventMessage], args: tuple[Any, ...], kwargs: Kwargs) -> None:
        """
        Call the hooks before the function, for each event, the function, and the hooks after it, in one context.

        Raises their errors.

        Code on the loop runs in a task of its own: cancelling that task later cancels no other event.
        """
        executor, function = self._context.executor, self._listener.function
        execution = Execution(self._loop, executor)
        if len(messages) == 1 and (trace := trace_sent(messages[0])) is not None:
            execution.run(trace_of_execution.set, trace)
        given = execution, messages, args, kwargs
        if self._is_hooked and self._is_async:
            await execution.in_own_task(self._execute_on_loop(*given))
        elif self._is_hooked:
            # All in one thread, so that a handler sees thread-local state that `def` hooks set.
            try:
                await in_thread(self._loop, executor, self._execute_blocking, *given)
            except asyncio.CancelledError:
                execution.cancel()  # the thread may wait for the loop
                raise
        elif self._is_async:
            check_ran(function, await execution.in_own_task(execution.call(function, args, kwargs, on_loop=True)))
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
        """Return the arguments after hooks may have changed the message; those of a batch are its messages."""
        return self.handler.arguments(messages[0]) if len(messages) == 1 else (args, kwargs)

    @contextlib.contextmanager
    def _around(self, execution: Execution, messages: Sequence[EventMessage]) -> Iterator[None]:
        """Enter the `around_event_execution` hooks of each event."""
        with contextlib.ExitStack() as stack:
            for message in messages:
                details = self._details(message)
                stack.enter_context(self._hooks.around("around_event_execution", execution.run, **details))
            yield

    def _details(self, message: EventMessage) -> dict[str, Any]:
        """Return the arguments of hooks."""
        return {"client": self._context.client, "event_message": message, "listener_name": self._listener.name}


def _context_of(trace: Trace) -> Context:
    """Return a new context with the trace in which an event was fired."""
    context = Context()
    context.run(trace_of_execution.set, trace)
    return context


def _decode(entry: Entry, stream: Stream, turn: Turn) -> Record:
    """
    Return a decoded event, and decode the waiting events after it in advance: at most one turn, and AHEAD bytes.

    Raises ProtocolError if the event is invalid.
    """
    turn.ahead.clear()  # the events that waited were dropped meanwhile
    if turn.decodes_ahead and stream.ready and stream.size <= AHEAD:
        entries = [entry, *itertools.islice(stream.ready, TURN)]
        try:
            record, *others = envelope.decode_records([each[2] for each in entries])
        except ProtocolError:
            turn.decodes_ahead = False  # they are decoded one by one instead, to find the invalid one
        else:
            turn.ahead.update(zip([each[0] for each in entries[1:]], others, strict=True))
            return record
    return envelope.decode_record(entry[2])

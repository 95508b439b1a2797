"""Firing: an event goes to this process's own publisher, or else is handed off to a peer that publishes it."""

from __future__ import annotations

import asyncio
import math
from time import time

from ..blocking import forbid_in_loop
from ..config import ApiSettings, Config
from ..core.registry import Snapshot
from ..deadline import Deadline
from ..engine.engine import Engine
from ..events.event_publisher import EventPublisher
from ..events.event_record import key_of, record_of
from ..exceptions import EventNotFound, InvalidArguments, InvalidParameters, LightbusTimeout, NotReachable, did_you_mean
from ..interrupts import interruptible
from ..message import EventMessage, event_message
from ..rpc.request import OutboundEvent
from ..service.api import Event
from ..tracing import Trace, trace_of_execution
from ..typing import BusOptions, Kwargs
from ..wire.envelope import Accepted
from .engine_holder import EngineHolder
from .hook_runner import HookRunner
from .options import FIRE_OPTIONS, check_options, timeout_of
from .outbox import UnpublishedEvents
from .peer_schemas import PeerSchemas
from .registration import Registration

__all__ = ["Firing", "check_remote_event", "not_handled", "trace_of"]

NO_DEADLINE = Deadline(math.inf)
"""The deadline of an event that this process stores itself, without waiting for another process."""

WAIT_FOR = ("journal", "ack")


class Firing:
    """The part of a client that fires."""

    def __init__(
        self,
        config: Config,
        engines: EngineHolder,
        registration: Registration,
        hooks: HookRunner,
        unpublished: UnpublishedEvents,
        schemas: PeerSchemas,
    ) -> None:
        self.schemas = schemas
        self._config = config
        self._engines = engines
        self._registration = registration
        self._hooks = hooks
        self._unpublished = unpublished

    async def fire(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> EventMessage:
        """Fire an event and return it when it is on disk somewhere. Raises what `BusPath.fire` raises."""
        engine = self._engines.engine
        publisher, api = engine.publisher, self._registration.apis.find(api_name)
        if publisher is None or api is None or options is not None or "event_sent" in self._hooks.registry.subjects:
            return await self._fire(engine, api_name, name, kwargs, options)
        # This process publishes the event, the usual case where events are fired often: `_fire`, inlined.
        event = api.get_event(name)
        message = self._own_event(engine, event, api_name, name, kwargs)
        waits = publisher.begin(message, event)
        if waits is not None:
            await waits
        return message

    def _own_event(self, engine: Engine, event: Event, api_name: str, name: str, kwargs: Kwargs | None) -> EventMessage:
        """Return an event that this process publishes: `new_event` without options, on the fast path."""
        signature = event.signature
        if kwargs is None:
            kwargs = {}
        if signature.optional:
            kwargs = signature.fill_defaults(kwargs)
        if not signature.passes(kwargs) and self._config.api(api_name).validation.outgoing:
            signature.validate(kwargs)
        trace = trace_of_execution.get()
        return event_message(
            api_name, name, kwargs, event.version or 1, engine.event_ids.next(), "", 1, time(), "",
            dict(trace) if trace else None,
        )  # fmt: skip

    async def _fire(
        self, engine: Engine, api_name: str, name: str, kwargs: Kwargs | None, options: BusOptions | None
    ) -> EventMessage:
        event, publisher, settings, deadline, wait_for = self.resolve(engine, api_name, name, options)
        unreachable = None if event is not None else await self.look_up(engine, api_name, name, deadline)
        message = self.new_event(engine, event, api_name, name, kwargs, settings, options)
        if not self._hooks.is_about("event_sent"):
            await self._send(engine, event, publisher, message, deadline, wait_for, unreachable)
            return message
        given = message.kwargs
        with self._hooks.around("around_event_sent", event_message=message):
            await self._hooks.run("before_event_sent", event_message=message)
            self.check_replaced(event, message, given, settings)
            await self._send(engine, event, publisher, message, deadline, wait_for, unreachable)
            await self._hooks.run("after_event_sent", event_message=message)
        return message

    async def _send(
        self,
        engine: Engine,
        event: Event | None,
        publisher: EventPublisher | None,
        message: EventMessage,
        deadline: Deadline,
        wait_for: str,
        unreachable: NotReachable | None,
    ) -> None:
        if publisher is not None and event is not None:
            place = await publisher.publish_async(message, event)
            if wait_for == "ack" and place is not None:
                seconds = deadline.left()
                try:
                    async with asyncio.timeout(seconds):
                        await asyncio.wrap_future(publisher.handled_by_all(place, seconds))
                except LightbusTimeout:
                    raise
                except TimeoutError:
                    raise not_handled(message.canonical_name, seconds) from None
            return
        outgoing = self._hand_off(engine, event, message, deadline, wait_for)
        try:
            if unreachable is not None:
                raise unreachable
            self.note_accepted(message, await engine.caller().request(outgoing))
        except NotReachable as error:
            await asyncio.to_thread(self._unpublished.keep, message, event, wait_for, error)
        except InvalidArguments:
            await self.schemas.learn_of_refusal(message.api_name, deadline)
            raise

    def fire_blocking(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> EventMessage:
        """Fire an event from a plain thread. Raises CannotBlockHere inside a running event loop."""
        if asyncio._get_running_loop() is not None:
            forbid_in_loop(f"bus.{api_name}.{name}.fire()", f"bus.{api_name}.{name}.fire_async()")
        engine = self._engines.engine
        own, api = engine.publisher, self._registration.apis.find(api_name)
        if (
            own is not None
            and api is not None
            and options is None
            and "event_sent" not in self._hooks.registry.subjects
        ):
            event = api.get_event(name)
            message = self._own_event(engine, event, api_name, name, kwargs)
            own.publish(message, event)
            return message
        return self._fire_blocking(engine, api_name, name, kwargs, options)

    def _fire_blocking(
        self, engine: Engine, api_name: str, name: str, kwargs: Kwargs | None, options: BusOptions | None
    ) -> EventMessage:
        event, publisher, settings, deadline, wait_for = self.resolve(engine, api_name, name, options)
        unreachable = None if event is not None else self.look_up_blocking(engine, api_name, name, deadline)
        message = self.new_event(engine, event, api_name, name, kwargs, settings, options)
        if not self._hooks.is_about("event_sent"):
            self._send_blocking(engine, event, publisher, message, deadline, wait_for, unreachable)
            return message
        given = message.kwargs
        with self._hooks.around("around_event_sent", event_message=message):
            self._hooks.run_blocking("before_event_sent", event_message=message)
            self.check_replaced(event, message, given, settings)
            self._send_blocking(engine, event, publisher, message, deadline, wait_for, unreachable)
            self._hooks.run_blocking("after_event_sent", event_message=message)
        return message

    def _send_blocking(
        self,
        engine: Engine,
        event: Event | None,
        publisher: EventPublisher | None,
        message: EventMessage,
        deadline: Deadline,
        wait_for: str,
        unreachable: NotReachable | None,
    ) -> None:
        if publisher is not None and event is not None:
            place = publisher.publish(message, event)
            if wait_for == "ack" and place is not None:
                seconds = deadline.left()
                try:
                    interruptible(publisher.handled_by_all(place, seconds).result, seconds)
                except LightbusTimeout:
                    raise
                except TimeoutError:
                    raise not_handled(message.canonical_name, seconds) from None
            return
        outgoing = self._hand_off(engine, event, message, deadline, wait_for)
        try:
            if unreachable is not None:
                raise unreachable
            self.note_accepted(message, self._engines.channel.request(outgoing))
        except NotReachable as error:
            self._unpublished.keep(message, event, wait_for, error)
        except InvalidArguments:
            self.schemas.learn_of_refusal_blocking(message.api_name, deadline)
            raise

    def resolve(
        self, engine: Engine, api_name: str, name: str, options: BusOptions | None
    ) -> tuple[Event | None, EventPublisher | None, ApiSettings, Deadline, str]:
        """Return the event, its publisher if that is this process, the API's settings, the deadline, and `wait_for`."""
        api = self._registration.apis.find(api_name)
        event = None if api is None else api.get_event(name)
        publisher = None if event is None else engine.publisher
        settings = self._config.api(api_name)
        seconds, wait_for = settings.event_fire_timeout, "journal"
        if options is not None:
            seconds, wait_for = _fire_options(api_name, options, seconds)
        deadline = NO_DEADLINE if publisher is not None and wait_for == "journal" else Deadline.after(seconds)
        return event, publisher, settings, deadline, wait_for

    def new_event(
        self,
        engine: Engine,
        event: Event | None,
        api_name: str,
        name: str,
        kwargs: Kwargs | None,
        settings: ApiSettings,
        options: BusOptions | None,
    ) -> EventMessage:
        """Return an event with these arguments. Raises if they are invalid, or if there is no such event."""
        if event is None:
            check_remote_event(engine.snapshot, api_name, name)
        kwargs = self.checked_arguments(event, api_name, name, {} if kwargs is None else kwargs, settings)
        version = 1 if event is None else event.version or 1
        trace = trace_of(options)
        return event_message(api_name, name, kwargs, version, engine.event_ids.next(), "", 1, time(), "", trace)

    def checked_arguments(
        self, event: Event | None, api_name: str, name: str, kwargs: Kwargs, settings: ApiSettings
    ) -> Kwargs:
        """Return the arguments of an event with its defaults. Raises if they are invalid."""
        if event is not None:
            signature = event.signature
            kwargs = signature.fill_defaults(kwargs)
            if not signature.passes(kwargs) and settings.validation.outgoing:
                signature.validate(kwargs)
        elif settings.validation.outgoing and self._registration.schema.knows(api_name):
            self._registration.schema.validate_parameters(api_name, name, kwargs)
        elif settings.validation.outgoing:
            self.schemas.check(api_name, name, kwargs, "events")
        return kwargs

    def check_replaced(self, event: Event | None, message: EventMessage, given: Kwargs, settings: ApiSettings) -> None:
        """Check and complete the arguments if a hook has replaced those that were given."""
        if message.kwargs is not given:
            message.kwargs = self.checked_arguments(
                event, message.api_name, message.event_name, message.kwargs, settings
            )

    def _hand_off(
        self, engine: Engine, event: Event | None, message: EventMessage, deadline: Deadline, wait_for: str
    ) -> OutboundEvent:
        record = record_of(message)
        key = key_of(event, message.kwargs)
        return OutboundEvent(engine, message.api_name, message.event_name, deadline, record, key, wait_for)

    def is_journaled(self, api_name: str) -> bool:
        """Return whether events of an API are kept in the journal of this process: not at a backend, or nowhere."""
        api = self._registration.apis.find(api_name)
        is_kept = api is not None and any(event.delivery != "best_effort" for event in api.events.values())
        return is_kept and not self._engines.engine.event_backends.has(api_name)

    def note_accepted(self, message: EventMessage, accepted: Accepted) -> None:
        """Record in an event which peer has published it, and its place in the journal there."""
        message.native_id, message.publisher = accepted.native_id, accepted.publisher
        if accepted.native_id:
            self._unpublished.note_seen(message)

    async def look_up(self, engine: Engine, api_name: str, name: str, deadline: Deadline) -> NotReachable | None:
        """
        Find the publishers of an API that is not registered here, and their schemas if these must be known.

        Return the NotReachable of an API without a publisher if its events can be stored here; else raise it.
        """
        if api_name not in engine.snapshot.by_api:
            try:
                await engine.resolve(api_name, deadline)
            except NotReachable as error:
                return await asyncio.to_thread(self._if_known, api_name, name, error)
        if self.schemas.wants(api_name):
            await self.schemas.learn(api_name, deadline)
        return None

    def look_up_blocking(
        self, engine: Engine, api_name: str, name: str, deadline: Deadline, *, with_schema: bool = True
    ) -> NotReachable | None:
        """Do the same as `look_up` from a plain thread; without schemas if the events were made and checked before."""
        if api_name not in engine.snapshot.by_api:
            try:
                self._engines.channel.resolve(api_name, deadline)
            except NotReachable as error:
                return self._if_known(api_name, name, error)
        if with_schema and self.schemas.wants(api_name):
            self.schemas.learn_blocking(api_name, deadline)
        return None

    def _if_known(self, api_name: str, name: str, error: NotReachable) -> NotReachable:
        """Return the error if this host knows the event, which can be stored here then; else raise it."""
        if not self._unpublished.is_known(api_name, name):
            raise error
        return error


def _fire_options(api_name: str, options: BusOptions, seconds: float) -> tuple[float, str]:
    what = f"an event of {api_name}"
    check_options(options, FIRE_OPTIONS, what)
    wait_for = options.get("wait_for") or "journal"
    if wait_for not in WAIT_FOR:
        raise InvalidParameters(
            f"bus_options of {what}: wait_for is {wait_for!r:.100}. There are: {', '.join(WAIT_FOR)}."
        )
    return timeout_of(options, seconds, what), wait_for


def trace_of(options: BusOptions | None) -> Trace | None:
    """Return the trace context to send with an event that is fired with these options."""
    trace = trace_of_execution.get() if options is None else options.get("trace") or trace_of_execution.get()
    return dict(trace) if trace else None


def not_handled(event: str, seconds: float) -> LightbusTimeout:
    """Return the error for an event that not every group has handled in time."""
    return LightbusTimeout(
        f"Not every group has handled {event} within {seconds:.3g} s. It is on disk, and will still be "
        "delivered. Raise `event_fire_timeout` (or bus_options={'timeout': seconds}) if the groups need longer."
    )


def check_remote_event(snapshot: Snapshot, api_name: str, name: str) -> None:
    """Raise EventNotFound if an API is published and has no such event."""
    if api_name in snapshot.by_api and (api_name, name) not in snapshot.events:
        known = [event for api, event in snapshot.events if api == api_name]
        infos = (info for peer in snapshot.by_api[api_name] for info in peer.announcement.apis or ())
        if any(info.name == api_name and name in info.procedures for info in infos):
            raise EventNotFound(f"{api_name}.{name} is no event: '{name}' is a procedure: call it.")
        raise EventNotFound(
            f"The API '{api_name}' has no event '{name}'.{did_you_mean(name, known)} "
            f"Its events are: {', '.join(sorted(known)) or 'none'}."
        )

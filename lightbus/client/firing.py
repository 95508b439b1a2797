"""Firing: into this process's own publisher where there is one, else handed off to a peer that has one."""

from __future__ import annotations

import asyncio
import logging
import time

from ..blocking import forbid_in_loop
from ..core.registry import Snapshot
from ..deadline import Deadline
from ..exceptions import EventNotFound, NotReachable, did_you_mean
from ..message import EventMessage
from ..runtime.engine import Engine
from ..runtime.outgoing import OutgoingEvent
from ..runtime.publishing import key_of, record_of
from ..service.api import Event
from ..typing import BusOptions, Kwargs
from ..wire.envelope import Accepted
from .calls import check_options, timeout_of
from .core import ClientCore

__all__ = ["Firing"]

logger = logging.getLogger("lightbus.client")

CROWD = 512
"""Events queued for publishing beyond which a firing loop lets the others have a turn."""

FIRE_OPTIONS = ("timeout",)


class Firing(ClientCore):
    """The part of the client that fires."""

    async def fire_event(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> EventMessage:
        """Fire an event and return it when a publisher has taken it. Raises what `BusPath.fire` raises."""
        engine = self.engine
        event = self._event(api_name, name)
        deadline = self._fire_deadline(api_name, options)
        if event is None and api_name not in engine.snapshot.by_api:
            await engine.resolve(api_name, deadline)
        message = self._new_event(engine, event, api_name, name, kwargs)
        if self.hooks.has("before_event_sent"):
            await self.run_hook("before_event_sent", event_message=message)
        publisher = engine.publisher
        if publisher is not None and event is not None:
            publisher.publish(message, event)
            if publisher.waiting > CROWD:
                await asyncio.sleep(0)
        else:
            outgoing = self._hand_off(engine, event, message, deadline)
            try:
                _taken(message, await engine.caller().request(outgoing))
            except NotReachable as error:
                self._drop(message, event, error)
        if self.hooks.has("after_event_sent"):
            await self.run_hook("after_event_sent", event_message=message)
        return message

    def fire_event_blocking(
        self, api_name: str, name: str, kwargs: Kwargs | None = None, options: BusOptions | None = None
    ) -> EventMessage:
        """Do the same from a plain thread. Raises CannotBlockHere inside a running event loop."""
        forbid_in_loop(f"bus.{api_name}.{name}.fire()", f"bus.{api_name}.{name}.fire_async()")
        engine = self.engine
        event = self._event(api_name, name)
        deadline = self._fire_deadline(api_name, options)
        if event is None and api_name not in engine.snapshot.by_api:
            self._door().resolve(api_name, deadline)
        message = self._new_event(engine, event, api_name, name, kwargs)
        if self.hooks.has("before_event_sent"):
            self.hooks.run_blocking("before_event_sent", client=self, event_message=message)
        publisher = engine.publisher
        if publisher is not None and event is not None:
            publisher.publish(message, event)
        else:
            try:
                _taken(message, self._door().request(self._hand_off(engine, event, message, deadline)))
            except NotReachable as error:
                self._drop(message, event, error)
        if self.hooks.has("after_event_sent"):
            self.hooks.run_blocking("after_event_sent", client=self, event_message=message)
        return message

    def _drop(self, message: EventMessage, event: Event | None, error: NotReachable) -> None:
        """Take in that nobody publishes an event: of best-effort events that is no error. Raises `error` otherwise."""
        if event is None or event.delivery != "best_effort":
            raise error
        self.dropped_events += 1
        logger.debug("%r was dropped: %s", message, error)

    def _fire_deadline(self, api_name: str, options: BusOptions | None) -> Deadline:
        seconds = self.config.api(api_name).event_fire_timeout
        if options is not None:
            check_options(options, FIRE_OPTIONS, f"an event of {api_name}")
            seconds = timeout_of(options, seconds, f"an event of {api_name}")
        return Deadline.after(seconds)

    def _event(self, api_name: str, name: str) -> Event | None:
        api = self.api_registry.find(api_name)
        return None if api is None else api.get_event(name)

    def _new_event(
        self, engine: Engine, event: Event | None, api_name: str, name: str, kwargs: Kwargs | None
    ) -> EventMessage:
        kwargs = {} if kwargs is None else kwargs
        validate = self.config.api(api_name).validation.outgoing
        version = 1
        if event is not None:
            kwargs = event.signature.fill_defaults(kwargs)
            if validate:
                event.signature.validate(kwargs)
            version = event.version or 1
        else:
            self._check_remote_event(engine.snapshot, api_name, name)
            if validate and self.schema.knows(api_name):
                self.schema.validate_parameters(api_name, name, kwargs)
        return EventMessage(
            api_name=api_name,
            event_name=name,
            kwargs=kwargs,
            version=version,
            id=engine.event_ids.next(),
            published_at=time.time(),
        )

    def _check_remote_event(self, snapshot: Snapshot, api_name: str, name: str) -> None:
        if api_name in snapshot.by_api and (api_name, name) not in snapshot.events:
            known = [event for api, event in snapshot.events if api == api_name]
            raise EventNotFound(
                f"The API '{api_name}' has no event '{name}'.{did_you_mean(name, known)} "
                f"Its events are: {', '.join(sorted(known)) or 'none'}."
            )

    def _hand_off(
        self, engine: Engine, event: Event | None, message: EventMessage, deadline: Deadline
    ) -> OutgoingEvent:
        record = record_of(message)
        key = key_of(event, message.kwargs)
        return OutgoingEvent(engine, message.api_name, message.event_name, deadline, record, key)


def _taken(message: EventMessage, accepted: Accepted) -> None:
    message.native_id, message.publisher = accepted.native_id, accepted.publisher

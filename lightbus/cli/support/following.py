"""The events of the bus as they happen and, from a time on, stored ones: for commands that follow events.

They are in no consumer group, so they take no events away from other listeners.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from ...config.features import Feature
from ...deadline import Deadline
from ...message import EventMessage
from .connection import Connection
from .in_order import InOrder

__all__ = ["EventFollower"]

LOOK_EVERY = 1.0
"""Seconds between two checks for new publishers and workers."""

SORT_EVERY = 0.1
"""Seconds between two checks of the events held back for sorting."""

SUBSCRIBE_TIMEOUT = 3.0
"""Seconds to wait for publishers that do not confirm the subscription."""


class EventFollower:
    """
    Follows the events of all APIs, including APIs that appear later.

    Attributes:
        apis: the APIs whose events are followed.

    Args:
        bus: the bus.
        give: called with each wanted event; stored events come in order of time.
        is_wanted: returns whether an event is wanted.
        since: where to begin; None for events from now on.
        name: the name of the listener, as other processes list it.

    """

    def __init__(
        self,
        bus: Connection,
        give: Callable[[EventMessage], None],
        *,
        is_wanted: Callable[[EventMessage], bool],
        since: str | datetime | None,
        name: str,
    ) -> None:
        self.apis: list[str] = []
        self._bus = bus
        self._give = give
        self._is_wanted = is_wanted
        self._since = since
        self._name = name
        self._kept: InOrder | None = None
        self._patience = Deadline.after(SUBSCRIBE_TIMEOUT)

    async def begin(self) -> None:
        """Start a worker that listens to the APIs known so far."""
        client = self._bus.client
        if self._since is not None:
            self._kept = InOrder(self._give, begun=time.time())
        client.set_features([Feature.EVENTS])
        self._listen_to_new()
        await client.start_worker()
        self._patience = Deadline.after(SUBSCRIBE_TIMEOUT)

    async def end(self) -> None:
        """Stop the worker."""
        await self._bus.client.stop_worker()

    @property
    def is_replaying(self) -> bool:
        """Whether stored events are still arriving."""
        return self._kept is not None and self._kept.holds

    @property
    def pause(self) -> float:
        """Seconds until the next call of `look`."""
        return SORT_EVERY if self.is_replaying else LOOK_EVERY

    def look(self) -> None:
        """Listen to new APIs, and pass on held-back events whose order is certain."""
        self._listen_to_new()
        if (
            self._kept is not None
            and self._kept.holds
            and (self._patience.passed() or self._is_subscribed_everywhere())
        ):
            self._kept.look()

    def _is_subscribed_everywhere(self) -> bool:
        """Return whether all publishers have confirmed the subscriptions."""
        client = self._bus.client
        parts = None if client.worker is None else client.worker.parts
        peers = (peer for api in self.apis for peer in client.engine.snapshot.publishers(api))
        return parts is not None and all(parts.consumer.is_live_at(peer.instance) for peer in peers)

    def _listen_to_new(self) -> None:
        client = self._bus.client
        options = None if self._since is None else {"since": self._since}
        for api in sorted({api for api, _ in client.engine.snapshot.events} - {*self.apis}):
            if not api.startswith("internal."):
                self.apis.append(api)
                client.listen_for_event(api, "*", self._on_event, listener_name=self._name, group=None, options=options)

    async def _on_event(self, message: EventMessage, /, **_: Any) -> None:
        if not self._is_wanted(message):
            return
        if self._kept is None:
            self._give(message)
        else:
            self._kept.add(message)

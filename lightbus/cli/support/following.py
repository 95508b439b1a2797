"""The events of the bus as they happen and, since a time, those that are kept: for commands that follow them.

It is in no consumer group, so nothing is taken away from anybody.
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
"""Seconds between two looks for publishers and workers that came meanwhile."""

SORT_EVERY = 0.1
"""Seconds between two looks at what is held back to be given out in order of time."""

SUBSCRIBE_TIMEOUT = 3.0
"""Seconds for which publishers are waited for that do not say that they know what is wanted of them."""


class EventFollower:
    """
    Follows the events of all APIs that there are, and of those that come.

    Attributes:
        apis: whose events are followed.

    Args:
        bus: the bus.
        give: is given each event that is wanted; those that are kept in order of time.
        is_wanted: whether an event is.
        since: where to begin; None for what happens from now on.
        name: of the listener, in the lists of others.

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
        """Listen to what there is by now."""
        client = self._bus.client
        if self._since is not None:
            self._kept = InOrder(self._give, begun=time.time())
        client.set_features([Feature.EVENTS])
        self._listen_to_new()
        await client.start_worker()
        self._patience = Deadline.after(SUBSCRIBE_TIMEOUT)

    async def end(self) -> None:
        """Listen no more."""
        await self._bus.client.stop_worker()

    @property
    def is_replaying(self) -> bool:
        """Whether what is kept is still on its way."""
        return self._kept is not None and self._kept.holds

    @property
    def pause(self) -> float:
        """Seconds until it is to look again."""
        return SORT_EVERY if self.is_replaying else LOOK_EVERY

    def look(self) -> None:
        """Look for new APIs, and give out what is held back as far as it can be told apart by time."""
        self._listen_to_new()
        if (
            self._kept is not None
            and self._kept.holds
            and (self._patience.passed() or self._is_subscribed_everywhere())
        ):
            self._kept.look()

    def _is_subscribed_everywhere(self) -> bool:
        """Return whether all publishers know what is wanted of them."""
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

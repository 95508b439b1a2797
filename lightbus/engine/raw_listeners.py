"""
Listeners to undecoded events in a process that is not a worker.

It connects to the publishers, binds nothing, and announces nothing. Such a listener is in no group, and no hooks are
run for it, so that everything else of a worker is missing here.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..core.registry import Fact, PeerLeft
from ..events.backends.backend_listeners import BackendListeners
from ..events.listening.consumer import Consumer
from ..listener import Listener
from ..service.api import ApiRegistry
from ..service.hooks import HookRegistry
from .engine import Engine
from .event_backends import RunningBackends
from .node import Node

__all__ = ["RawListeners", "raw_listeners"]

END_TIMEOUT = 1.0
"""Seconds for a listener to finish its events at the end."""


class RawListeners:
    """
    The listeners of one node (`Listener.takes_raw`). Made and used on its loop.

    Args:
        engine: the owner of the node.
        node: tells which publishers there are.
        apis: the APIs that are registered here; usually none.

    """

    def __init__(self, engine: Engine, node: Node, apis: ApiRegistry) -> None:
        self._engine = engine
        self._node = node
        self._consumer = Consumer(
            identity=engine.identity,
            transport=engine.transport,
            config=engine.config,
            apis=apis,
            hooks=HookRegistry(),
            client=None,
            executor=None,
            on_fatal=_ignore,
            on_stopped=_ignore,  # see `runs`
        )
        choice = engine.event_backends
        self._backends = RunningBackends(choice, engine.identity) if choice.is_used else None
        self._at_backends = (
            None if self._backends is None else BackendListeners(engine.identity, self._backends, self._consumer)
        )
        node.changes.observe(self._observe)

    @property
    def is_over(self) -> bool:
        """Whether the node has gone, so that nothing arrives any more."""
        return self._node.changes.stopped

    def runs(self, listener: Listener) -> bool:
        """Return whether a listener was added, and has not failed."""
        runner = self._consumer.runner_of(listener)
        return runner is not None and runner.stopped_by is None

    async def add(self, listener: Listener) -> None:
        """Start a listener, and return once it is subscribed at the publishers that are up, or they are late."""
        self._engine.wanted.add(listener.api)
        try:
            await self._consumer.add(listener, self._engine.snapshot.publishers(listener.api))
            if self._at_backends is not None:
                await self._at_backends.add(listener)
        except BaseException:  # an event backend does not start, or it takes too long
            await self.remove(listener)  # so that it can be added again
            raise

    async def remove(self, listener: Listener) -> None:
        """Stop a listener, and unsubscribe it: publishers send nothing for it, and stay connected."""
        await self._consumer.remove(listener)
        if self._at_backends is not None:
            await self._at_backends.remove(listener)

    def close_unused(self) -> None:
        """Close the connections to publishers that no listener needs."""
        self._consumer.close_unused()

    async def stop(self) -> None:
        """Stop all listeners, and close their connections."""
        await self._consumer.stop(END_TIMEOUT)
        if self._at_backends is not None:
            await self._at_backends.stop()
        if self._backends is not None:
            await self._backends.stop()

    def _observe(self, facts: Sequence[Fact]) -> None:
        for fact in facts:
            if isinstance(fact, PeerLeft):
                self._consumer.peer_left(fact.peer.instance)
            else:
                self._consumer.peer_is_up(fact.peer)


async def raw_listeners(engine: Engine, apis: ApiRegistry) -> RawListeners:
    """Return a holder of listeners on the running loop; the node moves here. Raises UnsupportedUse beside a worker."""
    return RawListeners(engine, await engine.loop_host.settle(), apis)


def _ignore(listener: Listener, error: object) -> None:
    pass

"""Waits until a peer advertises an API, and gives up as soon as there is nothing left to wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence

from ..adapters.host.descriptors import descriptor_limit, has_free_descriptors
from ..core.registry import CROWD, PeerState, Registry
from ..core.resolver import explain
from ..deadline import Deadline
from ..exceptions import LightbusException
from .dialer import EVERYTHING, Dialer
from .link import HELLO_TIMEOUT
from .running_clock import LONGEST_STEP, RunningClock

__all__ = ["Lookup", "NodeStopped"]

RETURN_TIME = 5.0
"""Seconds for which to wait for the successor of a peer that was lost, or began to shut down."""


CROWD_PATIENCE = 15
"""
Factor of the usual wait while many announced peers do not answer: in a flood of announcements the real one may be
found only after seconds.
"""

QUIET = 0.2
"""Seconds without changes after which all peers count as known: peers report changes at once."""

LOOK_EVERY = 0.05

LOOK_AGAIN_EVERY = 1.0
"""Seconds between two looks of discovery, at the least, while a call waits."""

MAX_UNKNOWN = 256
"""Unknown APIs that stay wanted, in case a peer with them joins."""


class NodeStopped(Exception):
    """The node has left this loop; ask the node that replaced it."""


class Lookup:
    """
    The calls that wait for an API. Only touched from the node's loop.

    Args:
        registry: the known peers.
        dialer: connects to peers that may have the API.
        wanted: the APIs that this process uses; those asked for are added.
        wait: seconds from now for which an API without a peer is waited for.
        where: describes how peers are discovered, for messages.
        foreign_peers: returns a clause about each peer of another bus that has the API, for messages.
        look: makes discovery check for changes at once.

    """

    def __init__(
        self,
        registry: Registry,
        dialer: Dialer,
        wanted: set[str],
        *,
        wait: float,
        where: Callable[[], str],
        foreign_peers: Callable[[str], list[str]] = lambda api: [],
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._registry = registry
        self._look = look
        self._dialer = dialer
        self._wanted = wanted
        self._wait = wait
        self._where = where
        self._foreign_peers = foreign_peers
        self._clock = RunningClock()
        self._started_at = self._clock.read()
        self._look_at = 0.0
        self._unknown: dict[str, None] = {}
        """APIs that were not found, the latest last."""
        self._waiters: set[asyncio.Future[None]] = set()
        self._stopped = False

    async def resolve(
        self, api: str, deadline: Deadline, *, to_call: bool = False, leaving: Collection[str] = ()
    ) -> None:
        """
        Return once a peer that advertises `api` is up; with `to_call`, one that serves its procedures.

        If it makes no sense to wait for one that serves procedures, a peer that only publishes the API's events is
        enough. The instances in `leaving` do not count: their successor is waited for.

        Raises:
            UnknownApi: no peer advertises the API.
            PeerUnreachable: a peer advertises the API, but does not answer.
            PeerRefused: a peer that advertises the API, or may, refuses us.
            NodeStopped: the node left this loop.

        """
        self._wanted.add(api)
        asked_at = self._clock.read()
        if not self._is_up(api, to_call=to_call, leaving=leaving):
            self._look_again(at_once=True)
        self._dialer.dial_due(time.monotonic())
        # Peers that are not due yet, too: a call waits for them.
        self._dialer.dial_wanted(self._registry.advertising(api))
        while not self._is_up(api, to_call=to_call, leaving=leaving):
            self._look_again()
            left = min(self._remaining_wait(api, asked_at, leaving), deadline.left())
            if left <= 0 and to_call and self._is_up(api, leaving=leaving):
                return
            if left <= 0:
                self._note_unknown(api)
                raise self._explain(api)
            await self._change(left)

    async def resolve_all(self, api: str, deadline: Deadline) -> None:
        """
        Return once all known peers that advertise `api` are up or have failed.

        That is at the earliest `wait` after the start of the node, with no attempt in progress. Raises as `resolve`.
        """
        asked_at = self._clock.read()
        await self.resolve(api, deadline)
        while True:
            until = self._started_at + self._wait
            if self._dialer.may_find(api) or self._is_untried(api):
                until = max(until, asked_at + HELLO_TIMEOUT)
            left = min(until - self._clock.read(), deadline.left())
            if left <= 0:
                return
            await self._change(left)

    async def wait_for(self, apis: Sequence[str], deadline: Deadline) -> list[str]:
        """Wait until each of these APIs is advertised by a peer that is up; at the deadline return the missing ones."""
        self._wanted.update(apis)
        self._dialer.dial_due(time.monotonic())
        while True:
            missing = [api for api in apis if not self._is_up(api)]
            if not missing or deadline.passed():
                return missing
            self._look_again()
            await self._change(deadline.left())

    async def discover_all(self, deadline: Deadline) -> None:
        """
        Dial all peers, and return once each announced peer has answered or failed, and no new one appears.

        Without any announcement, this waits until the deadline.
        """
        self._wanted.add(EVERYTHING)
        seen, quiet_since = self._peer_states(), self._clock.read()
        while not deadline.passed():
            now = self._clock.read()
            self._dialer.dial_due(time.monotonic())
            if self._peer_states() != seen or self._is_busy():
                seen, quiet_since = self._peer_states(), now
            elif seen and now - quiet_since >= QUIET:
                return
            await self._change(min(LOOK_EVERY, deadline.left()))

    def tick(self) -> None:
        """Advance the clock. Must be called often: time without calls counts as time when the process did not run."""
        self._clock.read()

    def wake(self) -> None:
        """Wake all waiting calls."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def stop(self) -> None:
        """Make all waiting calls raise NodeStopped."""
        self._stopped = True
        self.wake()

    # Inside

    def _look_again(self, *, at_once: bool = False) -> None:
        """Have discovery look, at most once a second for those that wait: its news may have been lost."""
        now = self._clock.read()
        if at_once or now >= self._look_at:
            self._look_at = now + LOOK_AGAIN_EVERY
            self._look()

    def _peer_states(self) -> dict[str, PeerState]:
        return {peer.instance: peer.state for peer in self._registry.peers.values()}

    def _is_busy(self) -> bool:
        untried = any(peer.state is PeerState.UNVERIFIED for peer in self._registry.peers.values())
        return untried or self._dialer.has_untried_seed()

    def _note_unknown(self, api: str) -> None:
        """Keep looking for an API that no peer has; bounded, since the names may come from the network."""
        if not self._registry.advertising(api):
            self._unknown[api] = None
            if len(self._unknown) > MAX_UNKNOWN:
                oldest = next(iter(self._unknown))
                del self._unknown[oldest]
                if not self._registry.advertising(oldest):
                    self._wanted.discard(oldest)

    def _is_up(self, api: str, *, to_call: bool = False, leaving: Collection[str] = ()) -> bool:
        peers = self._registry.advertising(api)
        return any(peer.is_up and (peer.serves(api) or not to_call) and peer.instance not in leaving for peer in peers)

    def _remaining_wait(self, api: str, asked_at: float, leaving: Collection[str]) -> float:
        """Return how many more seconds it makes sense to wait for an API."""
        until = self._started_at + self._wait * (CROWD_PATIENCE if self._is_full() else 1)
        if self._dialer.may_find(api) or self._is_untried(api):
            until = max(until, asked_at + HELLO_TIMEOUT)  # by then an attempt in progress has ended
        if leaving or self._may_return(api, time.monotonic()):
            until = max(until, asked_at + self._wait)
        return until - self._clock.read()

    def _is_full(self) -> bool:
        peers = self._registry.peers
        return len(peers) > CROWD and sum(not peer.endpoint for peer in peers.values()) > CROWD

    def _is_untried(self, api: str) -> bool:
        return any(peer.state is PeerState.UNVERIFIED for peer in self._registry.advertising(api))

    def _may_return(self, api: str, now: float) -> bool:
        leaving = (PeerState.SUSPECT, PeerState.DRAINING)
        peers = self._registry.advertising(api)
        return any(peer.state in leaving and now - peer.changed_at < RETURN_TIME for peer in peers)

    def _explain(self, api: str) -> LightbusException:
        waited = self._clock.read() - self._started_at
        snapshot = self._registry.snapshot()
        refusals = [*self._dialer.seeds.refusals(), *self._foreign_peers(api)]
        where = self._where()
        if not has_free_descriptors():  # nothing can be read, in directories or from the network
            where += f", with all {descriptor_limit()} open files in use that this process may have: raise ulimit -n"
        return explain(api, snapshot, waited=waited, where=where, refusals=refusals, hint=self._dialer.hint)

    async def _change(self, seconds: float) -> None:
        if self._stopped:
            raise NodeStopped
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        try:
            await asyncio.wait([waiter], timeout=min(max(0.001, seconds), LONGEST_STEP / 2))
        finally:
            self._waiters.discard(waiter)
        if self._stopped:
            raise NodeStopped

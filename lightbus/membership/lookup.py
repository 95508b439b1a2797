"""Waiting until a name is advertised, and giving up as soon as there is nothing left to wait for."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence

from ..core.registry import CROWD, PeerState, Registry
from ..core.resolver import explain
from ..deadline import Deadline
from ..exceptions import LightbusException
from .dialer import EVERYTHING, Dialer
from .link import HELLO_TIMEOUT
from .running_clock import LONGEST_STEP, RunningClock

__all__ = ["Lookup", "NodeStopped"]

RETURN_TIME = 5.0
"""Seconds after a peer was lost, or began to leave, for which its successor is worth waiting for."""


CROWD_PATIENCE = 15
"""
Times the usual wait for which a name is looked for where a crowd is announced that does not answer: a flood of
announcements may drown the one that is real for seconds.
"""

QUIET = 0.2
"""Seconds without changes after which all peers are known: peers report changes at once."""

LOOK_EVERY = 0.05

MAX_UNKNOWN = 256
"""Unknown names that are remembered, in case a peer with them joins."""


class NodeStopped(Exception):
    """The node left this loop meanwhile; ask the one that followed it."""


class Lookup:
    """
    The waiting calls by name. Only touched from the node's loop.

    Args:
        registry: the peers we know.
        dialer: tries those that may have the name.
        wanted: the APIs that this process uses; those asked for are added.
        wait: seconds that a name without a peer is waited for, from now on.
        where: says how peers are looked for, for messages.
        foreign_peers: returns a clause about each peer of another bus that has a name, for messages.
        look: has discovery check at once for changes.

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
        self._unknown: dict[str, None] = {}
        """Names that were not found, the latest last."""
        self._waiters: set[asyncio.Future[None]] = set()
        self._stopped = False

    async def resolve(
        self, api: str, deadline: Deadline, *, to_call: bool = False, leaving: Collection[str] = ()
    ) -> None:
        """
        Return when a peer that advertises `api` is up; `to_call`: one that serves its procedures.

        Where it makes no sense to wait for one that does, a peer that only publishes its events is enough. One of the
        instances that are `leaving`, as the caller knows, does not do: its successor is waited for.

        Raises:
            UnknownApi: no peer advertises it.
            PeerUnreachable: a peer does, and does not answer.
            PeerRefused: a peer does, or may, and refuses us.
            NodeStopped: the node left this loop.

        """
        self._wanted.add(api)
        asked_at = self._clock.read()
        if not self._is_up(api, to_call=to_call, leaving=leaving):
            self._look()
        self._dialer.dial_due(time.monotonic())
        # Quarantined or not: somebody asks, so it is worth an attempt.
        self._dialer.dial_wanted(self._registry.advertising(api))
        while not self._is_up(api, to_call=to_call, leaving=leaving):
            left = min(self._remaining_wait(api, asked_at, leaving), deadline.left())
            if left <= 0 and to_call and self._is_up(api, leaving=leaving):
                return
            if left <= 0:
                self._note_unknown(api)
                raise self._explain(api)
            await self._change(left)

    async def resolve_all(self, api: str, deadline: Deadline) -> None:
        """
        Return when all peers that advertise `api` are up or have failed, as far as is known by then.

        That is `wait` after the start of the node, and no attempt is on its way. Raises what `resolve` raises.
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
        """Return when each of these APIs is advertised by a peer that is up, or the time is over; return the others."""
        self._wanted.update(apis)
        self._dialer.dial_due(time.monotonic())
        while True:
            missing = [api for api in apis if not self._is_up(api)]
            if not missing or deadline.passed():
                return missing
            await self._change(deadline.left())

    async def discover_all(self, deadline: Deadline) -> None:
        """
        Dial all peers, and return when each announced one has answered or failed, and no new one appears.

        Without any announcement, that takes until the deadline.
        """
        self._wanted.add(EVERYTHING)
        seen, quiet_since = self._picture(), self._clock.read()
        while not deadline.passed():
            now = self._clock.read()
            self._dialer.dial_due(time.monotonic())
            if self._picture() != seen or self._is_busy():
                seen, quiet_since = self._picture(), now
            elif seen and now - quiet_since >= QUIET:
                return
            await self._change(min(LOOK_EVERY, deadline.left()))

    def tick(self) -> None:
        """Advance the clock; to be called often: while it is not called, this process does not run."""
        self._clock.read()

    def wake(self) -> None:
        """Wake all waiting calls."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    def stop(self) -> None:
        """Send all waiting calls to the next node."""
        self._stopped = True
        self.wake()

    # Inside

    def _picture(self) -> dict[str, PeerState]:
        return {peer.instance: peer.state for peer in self._registry.peers.values()}

    def _is_busy(self) -> bool:
        untried = any(peer.state is PeerState.UNVERIFIED for peer in self._registry.peers.values())
        return untried or self._dialer.has_untried_seed()

    def _note_unknown(self, api: str) -> None:
        """Go on looking for a name that nobody has, but not for all that were ever asked for: they may be anybody's."""
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
        """Return for how many more seconds it makes sense to wait for an API."""
        until = self._started_at + self._wait * (CROWD_PATIENCE if self._is_full() else 1)
        if self._dialer.may_find(api) or self._is_untried(api):
            until = max(until, asked_at + HELLO_TIMEOUT)  # by then an attempt that was on its way has ended
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
        refusals = [*self._dialer.refusals(), *self._foreign_peers(api)]
        return explain(api, snapshot, waited=waited, where=self._where(), refusals=refusals, hint=self._dialer.hint)

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

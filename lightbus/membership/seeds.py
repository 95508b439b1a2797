"""The fixed peers of the settings: their addresses, when to try them, and their state.

A fixed peer given by name is resolved repeatedly, and tried at each address of the name. The last addresses stay in use
while a name server fails or hangs.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from ..adapters.dns.lookup import DnsAnswer, is_name, of_this_host, resolve
from ..core.registry import STEADY, retry_delay
from ..ports.transport import MOST_ENDPOINTS
from ..typing import Endpoint
from .running_clock import RunningClock

__all__ = [
    "HANGS_AFTER",
    "LOOKUP_PATIENCE",
    "LOOKUP_PAUSE",
    "MOST_ADDRESSES",
    "REFRESH",
    "WARN_AFTER",
    "FixedPeer",
    "Seeds",
]

logger = logging.getLogger("lightbus.dialing")

REFRESH = 30.0
"""Seconds between two lookups of a name if none of its addresses failed."""

LOOKUP_PAUSE = 1.0
"""Seconds between two lookups of a name if one of its addresses failed."""

LOOKUP_PATIENCE = 2.0
"""Seconds for which calls wait for the first lookup of a name, as for an answer to HELLO."""

HANGS_AFTER = 5.0
"""Seconds after which a warning says that a name server does not answer: the usual timeout of resolvers."""

MOST_ADDRESSES = 16
"""Addresses of a name that are tried. If there are more, each lookup picks some at random: in time all are tried."""

WARN_AFTER = 3
"""Failures in a row before a warning: a peer, or a name server, may be starting at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FixedPeer:
    """
    The state of a fixed peer.

    Attributes:
        endpoint: the endpoint from the settings, as the transport reads it.
        is_name: whether the endpoint has a name that is resolved.
        addresses: the endpoints at which it is tried.
        answering: the addresses that answered; one may be this process itself.
        lookups, failed_lookups: how often the name was resolved, and how often that failed.
        problem: why the latest lookup failed; empty if it did not.

    """

    endpoint: Endpoint
    is_name: bool
    addresses: tuple[Endpoint, ...]
    answering: tuple[Endpoint, ...]
    lookups: int
    failed_lookups: int
    problem: str


class Address:
    """One address of a fixed peer, and its state."""

    __slots__ = ("endpoint", "failures", "instance", "is_ourselves", "linked_at", "refusal", "retry_at", "unsteady")

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.failures = 0
        self.instance = ""
        self.is_ourselves = False
        self.linked_at = 0.0
        self.unsteady = 0
        """How many connections to it ended almost at once, in a row."""
        self.refusal = ""
        """Why the peer at this address refuses us; empty if it does not, or is not reachable."""
        self.retry_at = 0.0

    @property
    def answers(self) -> bool:
        return bool(self.instance) or self.is_ourselves


class _Seed:
    """A fixed peer of the settings."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.is_name = is_name(endpoint)
        self.addresses = [] if self.is_name else [Address(endpoint)]
        self.lookups = 0
        self.failed_lookups = 0
        self.failures = 0
        """Failed lookups since the last successful one."""
        self.problem = ""
        self.wanted_at: float | None = None
        """When its first lookup was due, by the running clock."""
        self.began_at: float | None = None
        """When the lookup in progress began; None if there is none."""
        self.hangs = False
        self.next_lookup = 0.0

    def is_untried(self, running: float) -> bool:
        """Return whether it was neither reached nor failed yet, and its first lookup has not taken too long."""
        if self.is_name and not self.lookups:
            return self.wanted_at is None or running - self.wanted_at < LOOKUP_PATIENCE
        return any(not address.answers and not address.failures for address in self.addresses)

    def is_first_resolving(self, running: float) -> bool:
        """Return whether its first lookup is in progress, and worth waiting for."""
        return self.is_name and not self.lookups and self.is_untried(running)


class Seeds:
    """
    All fixed peers. Only touched from the node's loop.

    Args:
        endpoints: the fixed peers from the settings; names in them are resolved.
        on_lookup: called when a lookup has ended: there may be new addresses to try.
        clock: returns the time at which lookups end.

    """

    def __init__(
        self, endpoints: Iterable[Endpoint], on_lookup: Callable[[], None], clock: Callable[[], float]
    ) -> None:
        self._seeds = [_Seed(endpoint) for endpoint in endpoints]
        self._on_lookup = on_lookup
        self._clock = clock
        self._running = RunningClock(clock)
        """Limits the wait for the first lookup of a name: while the process does not run, no answer can arrive."""
        self._stands_for: dict[Endpoint, Endpoint] = {}
        """By endpoints of this host: the fixed peers on loopback that are tried there, too."""
        self._closed = False

    def due(self, now: float) -> Iterator[Address]:
        """Yield the addresses to be tried now, and start lookups that are due."""
        running = self._running.read()
        for seed in self._seeds:
            if seed.is_name:
                if seed.wanted_at is None:
                    seed.wanted_at = running
                self._resolve(seed, now)
            for address in seed.addresses:
                if not address.answers and address.retry_at <= now:
                    yield address

    def is_due(self, by: float) -> bool:
        """Return whether an address is due at the time `by`."""
        return any(not address.answers and address.retry_at <= by for address in self._addresses())

    def at(self, endpoints: Sequence[Endpoint]) -> list[Address]:
        """Return the addresses with these endpoints; none for endpoints that are not of fixed peers."""
        return [address for address in self._addresses() if address.endpoint in endpoints]

    def endpoints_of(self, address: Address, ours: Sequence[str]) -> list[Endpoint]:
        """Return the endpoints at which to try an address; `ours` are the addresses of this host that we use."""
        here = of_this_host(address.endpoint, ours[:MOST_ENDPOINTS])
        self._stands_for.update(dict.fromkeys(here, address.endpoint))
        return [address.endpoint, *here]

    def linked(self, endpoint: Endpoint, instance: str, *, ourselves: bool) -> None:
        """Record the peer that answered at an endpoint, which is no longer tried."""
        for address in self.at([endpoint, self._stands_for.get(endpoint, endpoint)]):
            if not address.instance:  # not again with each heartbeat
                address.linked_at = self._clock()
            address.instance, address.failures, address.is_ourselves = instance, 0, ourselves
            address.refusal = ""

    def unlinked(self, instance: str, now: float) -> None:
        """Record that a connection ended; if the peer is a fixed peer, resolve its name and try it again."""
        for address in self._addresses():
            if address.instance == instance:
                address.unsteady = address.unsteady + 1 if now - address.linked_at < STEADY else 0
                address.instance, address.retry_at = "", now + retry_delay(max(1, address.unsteady))
                self._resolve_soon(address, now)

    def failed(self, endpoints: Sequence[Endpoint], now: float, reason: str, *, denied: bool, keys: int) -> None:
        """Record a failed attempt; the address is tried again, with each of `keys` keys before it is given up."""
        for address in self.at(endpoints):
            address.failures += 1
            # While keys are rotated, the next of our keys may be the right one: no pause before all were tried.
            rounds = address.failures // keys
            address.retry_at = now + (retry_delay(rounds) if rounds else 0.0)
            address.refusal = reason if denied else ""
            log = logger.warning if address.failures == WARN_AFTER else logger.debug
            log("The fixed peer %s %s; it will be tried again", self._named(address), reason.rstrip("."))
            self._resolve_soon(address, now)

    def has_untried(self) -> bool:
        """Return whether one has neither been reached nor failed yet."""
        running = self._running.read()
        return any(seed.is_untried(running) for seed in self._seeds)

    def are_resolving(self) -> bool:
        """Return whether a name is being resolved for the first time: it may lead to any peer."""
        running = self._running.read()
        return any(seed.is_first_resolving(running) for seed in self._seeds)

    def describe(self) -> str:
        """Return their state as text for a message; empty if there are none."""
        if not self._seeds:
            return ""
        answering = sum(any(address.instance for address in seed.addresses) for seed in self._seeds)
        lost = [f"{seed.endpoint} cannot be resolved ({seed.problem})" for seed in self._seeds if seed.problem]
        return ", ".join([f"{answering} of {len(self._seeds)} fixed peers answer", *lost])

    def refusals(self) -> list[str]:
        """Return a clause about each that refuses us; none if any accepts us, since it reports the others."""
        addresses = list(self._addresses())
        if any(address.instance for address in addresses):
            return []
        return [f"the fixed peer {self._named(each)} {each.refusal}" for each in addresses if each.refusal]

    def report(self) -> list[FixedPeer]:
        """Return the state of each fixed peer."""
        return [
            FixedPeer(
                endpoint=seed.endpoint,
                is_name=seed.is_name,
                addresses=tuple(address.endpoint for address in seed.addresses),
                answering=tuple(address.endpoint for address in seed.addresses if address.answers),
                lookups=seed.lookups,
                failed_lookups=seed.failed_lookups,
                problem=seed.problem or self._pending(seed),
            )
            for seed in self._seeds
        ]

    def close(self) -> None:
        """Start no more lookups, and ignore the results of those in progress."""
        self._closed = True

    # Inside

    def _addresses(self) -> Iterator[Address]:
        for seed in self._seeds:
            yield from seed.addresses

    def _named(self, address: Address) -> str:
        names = [seed.endpoint for seed in self._seeds if address in seed.addresses and seed.is_name]
        return f"{names[0]} at {address.endpoint}" if names else address.endpoint

    def _pending(self, seed: _Seed) -> str:
        if seed.began_at is None:
            return ""
        waited = self._clock() - seed.began_at
        return f"the name server has not answered for {waited:.0f} s" if waited >= LOOKUP_PATIENCE else ""

    def _resolve_soon(self, address: Address, now: float) -> None:
        """Resolve the name of an address soon: its peer may have moved."""
        for seed in self._seeds:
            if address in seed.addresses:
                seed.next_lookup = min(seed.next_lookup, now + LOOKUP_PAUSE)

    def _resolve(self, seed: _Seed, now: float) -> None:
        if seed.began_at is not None:
            self._note_hanging(seed, now - seed.began_at)
        elif seed.next_lookup <= now and not self._closed and resolve(seed.endpoint, partial(self._on_resolved, seed)):
            seed.began_at, seed.hangs = now, False

    def _note_hanging(self, seed: _Seed, waited: float) -> None:
        if waited < HANGS_AFTER:
            return
        seed.problem = f"the name server has not answered for {waited:.0f} s"
        if not seed.hangs:
            seed.hangs = True
            logger.warning(
                "The name server has not answered the lookup of the fixed peer %s for %.0f s; the lookup continues in "
                "the background, and %s. Check /etc/resolv.conf, or give addresses in place of the name",
                seed.endpoint,
                waited,
                "its last addresses stay in use" if seed.addresses else "nothing else waits for it",
            )

    def _on_resolved(self, seed: _Seed, answer: DnsAnswer) -> None:
        if self._closed:
            return
        now = self._clock()
        seed.began_at = None
        seed.lookups += 1
        if answer.problem:
            self._note_failure(seed, answer.problem, now)
        else:
            seed.failures, seed.problem, seed.next_lookup = 0, "", now + REFRESH
            self._move(seed, answer.endpoints)
        self._on_lookup()

    def _note_failure(self, seed: _Seed, problem: str, now: float) -> None:
        seed.failed_lookups += 1
        seed.failures += 1
        seed.problem, seed.next_lookup = problem, now + retry_delay(seed.failures)
        log = logger.warning if seed.failures == WARN_AFTER else logger.debug
        log(
            "The name of the fixed peer %s could not be resolved (%d times in a row): %s; it will be tried again",
            seed.endpoint,
            seed.failures,
            problem,
        )

    def _move(self, seed: _Seed, endpoints: Sequence[Endpoint]) -> None:
        """Replace the addresses by those that the name has now. Open connections are kept."""
        if len(endpoints) > MOST_ADDRESSES:
            endpoints = random.sample(endpoints, MOST_ADDRESSES)
        before = {address.endpoint: address for address in seed.addresses}
        seed.addresses = [before.get(endpoint) or Address(endpoint) for endpoint in endpoints]
        if set(before) != set(endpoints):
            logger.info("The fixed peer %s is tried at %s", seed.endpoint, ", ".join(endpoints))

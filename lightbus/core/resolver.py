"""Choosing a live peer for an API, and explaining why there is none."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence

from ..exceptions import LightbusException, PeerRefused, PeerUnreachable, UnknownApi, did_you_mean
from .registry import Peer, PeerState, Snapshot

__all__ = ["choose", "explain"]

Randrange = Callable[[int], int]


def choose(
    peers: Sequence[Peer],
    in_flight: Mapping[str, int],
    *,
    host: str = "",
    tried: frozenset[str] = frozenset(),
    randrange: Randrange = random.randrange,
) -> Peer | None:
    """
    Return the peer to call: of two random ones, the one with fewer open calls of ours; None if all were tried.

    Two random choices keep the loads nearly even and need no knowledge of the others' load (Mitzenmacher, "The Power
    of Two Choices in Randomized Load Balancing", 2001). Peers of our own host go first: they are quicker to reach.

    Args:
        peers: the peers that are up and advertise the API.
        in_flight: our open calls at each instance.
        host: the name of our host.
        tried: the instances that have refused this call already.
        randrange: `random.randrange`, or a fixed one in a test.

    """
    if len(peers) == 1 and not tried:
        return peers[0]
    left = [peer for peer in peers if peer.instance not in tried]
    near = [peer for peer in left if peer.announcement.host == host] or left
    if len(near) < 2:
        return near[0] if near else None
    first = randrange(len(near))
    second = randrange(len(near) - 1)
    if second >= first:
        second += 1
    one, other = near[first], near[second]
    return one if in_flight.get(one.instance, 0) <= in_flight.get(other.instance, 0) else other


def explain(
    api: str,
    snapshot: Snapshot,
    *,
    waited: float,
    where: str = "",
    refusals: Sequence[str] = (),
    hint: Callable[[Peer], str] = lambda peer: "Is the process still running?",
) -> LightbusException:
    """
    Return the error that says why no peer can be called for `api`, and which APIs exist instead.

    Args:
        api: the name of the API without a peer.
        snapshot: the registry's snapshot.
        waited: seconds spent waiting for a peer.
        where: how peers were looked for: `"zeroconf on 127.0.0.1, 1 fixed peer"`.
        refusals: a clause about each process that refuses our connection and may have the API.
        hint: returns a sentence on why a peer may not answer, and what to do about it.

    """
    looked = f"looked for {waited:.1f} s" + (f" ({where})" if where else "")
    if known := snapshot.announced.get(api):
        peers = ", ".join(str(peer) for peer in known[:3])
        if any(peer.state is PeerState.REFUSED for peer in known):
            return PeerRefused(f"No peer that advertises the API '{api}' lets us in: {peers}; {looked}.")
        return PeerUnreachable(f"No peer that advertises the API '{api}' answers: {peers}; {looked}. {hint(known[0])}")
    names = snapshot.api_names()
    if refusals:
        return PeerRefused(
            f"No peer that lets us in advertises the API '{api}'; {looked}.{did_you_mean(api, names)} "
            f"But {'; '.join(refusals[:3])}."
        )
    parent, _, last = api.rpartition(".")
    if parent in names:
        return UnknownApi(
            f"There is no API '{api}', but there is '{parent}'. If '{last}' is a procedure or an event of it, it is "
            f"followed by one of call, call_async, fire, fire_async, fire_many, listen, history, lag; {looked}."
        )
    advertised = f"Advertised are: {', '.join(names)}." if names else "No peer advertises anything."
    return UnknownApi(
        f"No peer advertises the API '{api}'; {looked}.{did_you_mean(api, names)} {advertised} "
        "Is its worker running (lightbus run), and on the same bus?"
    )

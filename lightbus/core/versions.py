"""APIs that are served in several versions at a time, for example while workers are replaced."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from ..exceptions import UnknownApi
from .peers import Peer

__all__ = ["fitting", "is_mixed", "of_the_same_version"]


def is_mixed(api: str, peers: Iterable[Peer]) -> bool:
    """Return whether the peers that serve an API serve different versions of it."""
    return len({_version(api, peer) for peer in peers}) > 1


def fitting(peers: Sequence[Peer], api: str, procedure: str, version: int | None) -> tuple[Peer, ...]:
    """
    Return the peers that serve this procedure of an API, in this version if one is given.

    If none has the procedure, return all of that version: the one that is called reports it.

    Raises:
        UnknownApi: no worker serves that version.

    """
    if version is not None:
        right = [peer for peer in peers if _version(api, peer)[0] == version]
        if not right:
            there = sorted({number for number, _ in (_version(api, peer) for peer in peers)})
            raise UnknownApi(
                f"No peer serves version {version} of the API '{api}'. Served: {', '.join(map(str, there))}."
            )
        peers = right
    return tuple(peer for peer in peers if _has(peer, api, procedure)) or tuple(peers)


def of_the_same_version(peers: Iterable[Peer], api: str, peer: Peer) -> frozenset[str]:
    """Return the instances that serve an API in the same version as this peer."""
    version = _version(api, peer)
    return frozenset(each.instance for each in peers if _version(api, each) == version)


def _version(api: str, peer: Peer) -> tuple[int, str]:
    infos = peer.announcement.apis or ()
    return next(((info.version, info.digest) for info in infos if info.name == api), (1, ""))


def _has(peer: Peer, api: str, procedure: str) -> bool:
    infos = peer.announcement.apis
    return infos is None or any(procedure in info.procedures for info in infos if info.name == api)

"""The APIs on the bus, the peers that serve each, and looking up names from the command line."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ...core.peers import Peer
from ...exceptions import NotReachable, UnknownApi, UnknownProcedure, did_you_mean
from ...wire.api_info import ApiInfo
from .output import listed

__all__ = ["ServedApi", "no_api", "served_apis", "split_name", "split_target", "unanswered_apis"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedApi:
    """
    An API, and the peers that serve it.

    Attributes:
        name: the name of the API.
        served: the peers that are up and advertise the API, each with its ApiInfo; the latest version first.

    """

    name: str
    served: tuple[tuple[Peer, ApiInfo], ...]

    @property
    def peers(self) -> list[Peer]:
        """The peers that serve the API."""
        return [peer for peer, _ in self.served]

    @property
    def latest_peers(self) -> list[Peer]:
        """The peers that serve the API in its latest form: the same version, with the same members and signatures."""
        latest = self.served[0][1]
        form = latest.version, latest.digest
        return [peer for peer, info in self.served if (info.version, info.digest) == form]

    @property
    def versions(self) -> list[int]:
        """The served versions, the latest first."""
        return sorted({info.version for _, info in self.served}, reverse=True)

    @property
    def is_mixed(self) -> bool:
        """Whether the peers serve different versions, or different members or signatures of the same version."""
        return len({(info.version, info.digest) for _, info in self.served}) > 1

    @property
    def is_internal(self) -> bool:
        """Whether the API is internal: lists leave it out by default."""
        return all(info.internal for _, info in self.served)

    @property
    def procedures(self) -> list[str]:
        """The procedures that any of the peers serves."""
        return sorted({name for _, info in self.served for name in info.procedures})

    @property
    def events(self) -> list[str]:
        """The events that any of the peers publishes."""
        return sorted({name for _, info in self.served for name in info.events})

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        return {
            "api": self.name,
            "versions": self.versions,
            "mixed": self.is_mixed,
            "internal": self.is_internal,
            "procedures": self.procedures,
            "events": self.events,
            "peers": [_served_by(peer, info) for peer, info in self.served],
        }


def served_apis(peers: Iterable[Peer]) -> list[ServedApi]:
    """
    Return the APIs of peers that are up, sorted by name.

    A peer that only serves events left behind by the API's own service does not count: it knows nothing else of the
    API.
    """
    found: dict[str, list[tuple[Peer, ApiInfo]]] = {}
    for peer in peers:
        for info in peer.announcement.apis or () if peer.is_up else ():
            if not info.keeps:
                found.setdefault(info.name, []).append((peer, info))
    for served in found.values():
        served.sort(key=lambda each: -each[1].version)
    return [ServedApi(name=name, served=tuple(found[name])) for name in sorted(found)]


def unanswered_apis(peers: Iterable[Peer]) -> dict[str, list[Peer]]:
    """Return the public APIs that only peers announce that do not answer, each with these, sorted by name."""
    every = [*peers]
    served = {api.name for api in served_apis(every)}
    found: dict[str, list[Peer]] = {}
    for peer in every:
        for name in peer.announcement.api_names or () if not peer.is_live else ():
            if name not in served and not name.startswith("internal."):
                found.setdefault(name, []).append(peer)
    return dict(sorted(found.items()))


def split_target(name: str) -> tuple[str, str]:
    """Split the name of a member, `"shop.orders.create"`, into API and member. Raises UnknownApi."""
    api, _, member = name.rpartition(".")
    if not api or not member:
        raise UnknownApi(f"'{name}' names no procedure and no event. Write the API and its member: auth.check_password")
    return api, member


def split_name(name: str, apis: Sequence[ServedApi]) -> tuple[ServedApi, str | None]:
    """Return the API of a name, and the member if it names one. Raises UnknownApi, UnknownProcedure."""
    by_name = {api.name: api for api in apis}
    if name in by_name:
        return by_name[name], None
    api_name, _, member = name.rpartition(".")
    if api_name not in by_name:
        raise no_api(name, by_name)
    api = by_name[api_name]
    members = [*api.procedures, *api.events]
    if member not in members:
        near = did_you_mean(member, members)
        raise UnknownProcedure(f"The API '{api_name}' has no '{member}'.{near} It has: {listed(members) or 'nothing'}.")
    return api, member


def no_api(name: str, by_name: Collection[str]) -> NotReachable:
    """Return the error for an API that no peer serves."""
    near = did_you_mean(name, by_name) or did_you_mean(name.rpartition(".")[0], by_name)
    return UnknownApi(f"No peer that is up serves '{name}'.{near} Served are: {listed(by_name) or 'no APIs at all'}.")


def _served_by(peer: Peer, info: ApiInfo) -> dict[str, Any]:
    announcement = peer.announcement
    return {
        "service": announcement.service,
        "process": announcement.process,
        "instance": announcement.instance,
        "version": info.version,
        "digest": info.digest,
    }

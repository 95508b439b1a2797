"""The schemas of APIs that other peers serve: fetched once, and used to check what is sent to those peers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, TypeAlias

from ..config import Config
from ..core.peers import Peer, Snapshot
from ..deadline import Deadline
from ..exceptions import LightbusException, ValidationError
from ..rpc.outbound_call import OutboundCall
from ..service.foreign import ForeignApi
from ..typing import Kwargs
from .engine_holder import EngineHolder
from .registration import Registration

__all__ = ["PeerSchemas"]

MOST = 1000
"""Schemas that are kept: peers may announce ever new ones."""

Known: TypeAlias = list[tuple[Peer, ForeignApi]]


class PeerSchemas:
    """
    The schemas of peers, by API and digest. An API that is registered here, or whose schema was loaded, is left alone.

    Args:
        config: says for which APIs arguments are held against a schema in any case (`strict_validation`).
        engines: ask the peers.
        registration: the APIs that are registered or loaded here.

    """

    def __init__(self, config: Config, engines: EngineHolder, registration: Registration) -> None:
        self._config = config
        self._engines = engines
        self._registration = registration
        self._schemas: dict[tuple[str, str], ForeignApi] = {}
        self.are_known = False
        """Whether there is any: each call asks this first."""
        self._current: dict[str, tuple[Snapshot, Known]] = {}
        """The served versions per API of which all schemas are known; for this snapshot."""

    def check(self, api_name: str, name: str, kwargs: Kwargs, kind: str = "rpcs") -> None:
        """
        Check the arguments of a call or an event against its schema, where that is known.

        While several versions are served, arguments have to fit one of them.

        Raises:
            ValidationError: they do not satisfy the schema; the message names a peer that says so.

        """
        first: ValidationError | None = None
        for peer, api in self._served(api_name):
            signature = (api.rpcs if kind == "rpcs" else api.events).get(name)
            if signature is None or signature.passes(kwargs):
                return
            try:
                signature.validate(kwargs)
                return
            except ValidationError as error:
                first = first or _said_by(peer, error)
        if first is not None:
            raise first

    def wants(self, api_name: str) -> bool:
        """Return whether the schema of an API has to be known before anything is sent to it, and is not."""
        return self._config.api(api_name).strict_validation and self._is_elsewhere(api_name)

    async def learn(self, api_name: str, deadline: Deadline) -> None:
        """Ask for the schemas of an API that are not known yet. Raises what a call of it would raise."""
        engine = self._engines.engine
        if api_name not in engine.snapshot.by_api:
            await engine.resolve(api_name, deadline)
        for peer, digest in self._missing(api_name):
            self._keep(api_name, digest, await engine.caller().request(self._question(peer, api_name, deadline)))

    def learn_blocking(self, api_name: str, deadline: Deadline) -> None:
        """Ask, from a plain thread, for the schemas of an API that are not known yet."""
        if api_name not in self._engines.engine.snapshot.by_api:
            self._engines.channel.resolve(api_name, deadline)
        for peer, digest in self._missing(api_name):
            self._keep(api_name, digest, self._engines.channel.request(self._question(peer, api_name, deadline)))

    async def learn_of_refusal(self, api_name: str, deadline: Deadline) -> None:
        """Ask for the schema after something was refused by it, so that the like of it does not leave again."""
        if self._is_elsewhere(api_name):
            with contextlib.suppress(LightbusException):
                await self.learn(api_name, deadline)

    def learn_of_refusal_blocking(self, api_name: str, deadline: Deadline) -> None:
        """Ask for the schema after a refusal, as `learn_of_refusal` does, from a plain thread."""
        if self._is_elsewhere(api_name):
            with contextlib.suppress(LightbusException):
                self.learn_blocking(api_name, deadline)

    def _is_elsewhere(self, api_name: str) -> bool:
        return not api_name.startswith("internal.") and not self._registration.schema.knows(api_name)

    def _served(self, api_name: str) -> Known:
        """Return the schemas by which an API is served now; none where one of them is not known."""
        snapshot = self._engines.engine.snapshot
        seen, known = self._current.get(api_name, (None, []))
        if seen is not snapshot:
            versions = [*_versions(snapshot, api_name)]
            found = [(peer, self._schemas.get((api_name, digest))) for peer, digest in versions]
            known = [(peer, api) for peer, api in found if api is not None]
            if len(known) < len(found):
                known = []
            self._current[api_name] = snapshot, known
        return known

    def _missing(self, api_name: str) -> list[tuple[Peer, str]]:
        snapshot = self._engines.engine.snapshot
        versions = _versions(snapshot, api_name)
        return [(peer, digest) for peer, digest in versions if (api_name, digest) not in self._schemas]

    def _question(self, peer: Peer, api_name: str, deadline: Deadline) -> OutboundCall:
        kwargs = {"api": api_name}
        return OutboundCall(self._engines.engine, "internal.peer", "schema", deadline, kwargs, only=peer.instance)

    def _keep(self, api_name: str, digest: str, schema: Any) -> None:
        if len(self._schemas) >= MOST:
            del self._schemas[next(iter(self._schemas))]
        self._schemas[api_name, digest] = ForeignApi(api_name, schema)
        self.are_known = True
        self._current.pop(api_name, None)


def _versions(snapshot: Snapshot, api_name: str) -> Iterator[tuple[Peer, str]]:
    """Yield a peer for each schema by which an API is served, and its digest."""
    seen = set()
    for peer in snapshot.by_api.get(api_name, ()):
        for info in peer.announcement.apis or ():
            if info.name == api_name and info.digest not in seen:
                seen.add(info.digest)
                yield peer, info.digest


def _said_by(peer: Peer, error: ValidationError) -> ValidationError:
    """Return the error of a peer's schema, with the peer."""
    told = ValidationError(f"{error} (says the schema of {peer.announcement})")
    told.peer = str(peer.announcement)
    return told

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
"""The most schemas that are kept: a peer may announce ever new ones."""

Known: TypeAlias = list[tuple[Peer, ForeignApi]]


class PeerSchemas:
    """
    The schemas of peers, by API and digest; not of APIs registered here, or whose schema was loaded.

    Args:
        config: tells for which APIs a schema must be fetched before sending (`strict_validation`).
        engines: has the channels for asking the peers.
        registration: the APIs that are registered or loaded here.

    """

    def __init__(self, config: Config, engines: EngineHolder, registration: Registration) -> None:
        self._config = config
        self._engines = engines
        self._registration = registration
        self._schemas: dict[tuple[str, str], ForeignApi] = {}
        self.are_known = False
        """Whether any schema was fetched: each call checks this first."""
        self._current: dict[str, tuple[Snapshot, Known]] = {}
        """By API: a snapshot, and the served versions in it; none unless all their schemas are known."""

    def check(self, api_name: str, name: str, kwargs: Kwargs, kind: str = "rpcs") -> None:
        """
        Check the arguments of a call or an event against its schema, if the schema is known.

        While several versions are served, the arguments must satisfy one of them.

        Raises:
            ValidationError: the arguments do not satisfy the schema; the message names a peer with that schema.

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
                first = first or _with_peer(peer, error)
        if first is not None:
            raise first

    def wants(self, api_name: str) -> bool:
        """Return whether schemas of an API must be fetched before sending: strict validation, and a foreign API."""
        return self._config.api(api_name).strict_validation and self._is_foreign(api_name)

    async def learn(self, api_name: str, deadline: Deadline) -> None:
        """Fetch the schemas of an API that are not known yet. Raises what a call raises."""
        engine = self._engines.engine
        if api_name not in engine.snapshot.by_api:
            await engine.resolve(api_name, deadline)
        for peer, digest in self._missing(api_name):
            self._keep(api_name, digest, await engine.caller().request(self._question(peer, api_name, deadline)))

    def learn_blocking(self, api_name: str, deadline: Deadline) -> None:
        """Fetch, from a plain thread, the schemas of an API that are not known yet."""
        if api_name not in self._engines.engine.snapshot.by_api:
            self._engines.channel.resolve(api_name, deadline)
        for peer, digest in self._missing(api_name):
            self._keep(api_name, digest, self._engines.channel.request(self._question(peer, api_name, deadline)))

    async def learn_of_refusal(self, api_name: str, deadline: Deadline) -> None:
        """Fetch the schema after a peer refused arguments, so that the next such arguments are refused here."""
        if self._is_foreign(api_name):
            with contextlib.suppress(LightbusException):
                await self.learn(api_name, deadline)

    def learn_of_refusal_blocking(self, api_name: str, deadline: Deadline) -> None:
        """Fetch the schema after a refusal, as `learn_of_refusal` does, from a plain thread."""
        if self._is_foreign(api_name):
            with contextlib.suppress(LightbusException):
                self.learn_blocking(api_name, deadline)

    def _is_foreign(self, api_name: str) -> bool:
        return not api_name.startswith("internal.") and not self._registration.schema.knows(api_name)

    def _served(self, api_name: str) -> Known:
        """Return the schemas of the versions of an API served now; none if one of them is not known."""
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
    """Yield, for each schema of an API that is served, a peer that has it, and its digest."""
    seen = set()
    for peer in snapshot.by_api.get(api_name, ()):
        for info in peer.announcement.apis or ():
            if info.name == api_name and info.digest not in seen:
                seen.add(info.digest)
                yield peer, info.digest


def _with_peer(peer: Peer, error: ValidationError) -> ValidationError:
    """Return the error with the peer whose schema refused the arguments."""
    named = ValidationError(f"{error} (says the schema of {peer.announcement})")
    named.peer = str(peer.announcement)
    return named

"""The announcement of a worker: its identity, its addresses, and its APIs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ..ports.transport import Endpoints
from ..service.api import ApiRegistry
from ..service.schema import Schema
from ..wire.announcement import Announcement
from ..wire.api_info import ApiInfo
from .engine import Engine
from .events_api import EventsApi
from .peer_api import PeerApi
from .schedule_election import SCHEDULES_API, SchedulesApi

__all__ = ["announcement_of", "api_infos"]


def announcement_of(engine: Engine, apis: Sequence[ApiInfo], endpoints: Endpoints) -> Announcement:
    """Return the announcement of a worker that is bound to these endpoints."""
    me = engine.identity
    addresses = tuple(engine.config.network.advertise) or endpoints.addresses
    return Announcement(
        bus=me.bus,
        instance=me.instance,
        service=me.service,
        process=me.process,
        host=me.host,
        addresses=addresses if endpoints.rpc_port else (),
        rpc_port=endpoints.rpc_port,
        event_port=endpoints.event_port,
        directory=endpoints.directory,
        fingerprint=engine.transport.security.fingerprints[0],
        apis=tuple(apis),
        max_message_size=engine.max_message_size,
    )


def api_infos(
    registry: ApiRegistry,
    schema: Schema,
    *,
    serves_calls: bool,
    kept: Mapping[str, tuple[str, ...]],
    schedules: Sequence[str] = (),
) -> tuple[ApiInfo, ...]:
    """
    Return the description of each API: those registered here, and those whose events are `kept` for other processes.

    The `schedules` that only one worker of the service runs at a time are described as procedures of an internal API.
    """
    registered = registry.names()
    in_turn = [ApiInfo(name=SCHEDULES_API, procedures=tuple(sorted(schedules)), internal=True)] if schedules else []
    return tuple(
        [ApiInfo(name=api, events=events, keeps=True) for api, events in kept.items() if api not in registered]
        + in_turn
    ) + tuple(
        ApiInfo(
            name=api.meta.name,
            procedures=tuple(sorted(api.procedures)) if serves_calls else (),
            events=tuple(sorted(api.events)),
            version=api.meta.version,
            internal=api.meta.internal,
            digest=schema.digest(api.meta.name),
            best_effort=tuple(sorted(name for name, event in api.events.items() if event.delivery == "best_effort")),
        )
        for api in registry.all()
        if not isinstance(api, (PeerApi, EventsApi, SchedulesApi))  # every worker has these
    )

"""Calls that the library itself makes to the internal APIs of other workers, without the user's hooks."""

from __future__ import annotations

from typing import Any

from ..core.peers import Peer
from ..deadline import Deadline
from ..rpc.outbound_call import OutboundCall
from ..typing import Kwargs
from .engine import Engine

__all__ = ["ask"]


async def ask(engine: Engine, peer: Peer, api: str, procedure: str, kwargs: Kwargs) -> Any:
    """Call an internal procedure of a peer, and return its result. From any loop. Raises LightbusException."""
    deadline = Deadline.after(engine.config.api(api).rpc_timeout)
    return await engine.caller().request(OutboundCall(engine, api, procedure, deadline, kwargs, only=peer.instance))

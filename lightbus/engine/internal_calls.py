"""What this library asks other workers for itself: calls of their internal APIs, without the user's hooks around."""

from __future__ import annotations

from typing import Any

from ..core.peers import Peer
from ..deadline import Deadline
from ..rpc.outbound_call import OutboundCall
from ..typing import Kwargs
from .engine import Engine

__all__ = ["ask"]


async def ask(engine: Engine, peer: Peer, api: str, procedure: str, kwargs: Kwargs) -> Any:
    """Return what a peer answers, from any loop. Raises LightbusException."""
    deadline = Deadline.after(engine.config.api(api).rpc_timeout)
    return await engine.caller().request(OutboundCall(engine, api, procedure, deadline, kwargs, only=peer.instance))

"""A worker that sends unrequested answers to its callers, until a file appears, or two gigabytes are sent."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import lightbus
from lightbus import Api
from lightbus.adapters.zmq import bound_sockets
from lightbus.wire import envelope
from lightbus.wire.envelope import Result

SIZE, MOST = 200_000, 2 * 1024**3

bus = lightbus.create(service_name="pours")
callers: set[bytes] = set()


class PouringRouter(bound_sockets.Router):
    """Records the senders of calls."""

    def _receive(self) -> None:
        on_message, self._on_message = self._on_message, self._heard
        self._pass_on = on_message
        try:
            super()._receive()
        finally:
            self._on_message = on_message

    def _heard(self, routing_id: bytes, frame: bytes) -> None:
        if envelope.call_id_of(frame):
            callers.add(routing_id)
        self._pass_on(routing_id, frame)

    def pour(self, until: str) -> None:
        """Send."""
        frame = envelope.encode(Result(os.urandom(SIZE)), 2**40)
        sent = 0
        while not Path(until).exists() and sent < MOST:
            for caller in list(callers):
                with self._lock:
                    if not self._send_frame(caller, frame):
                        time.sleep(0.001)
                sent += SIZE


bound_sockets.Router = PouringRouter  # type: ignore[misc]


class PoursApi(Api):
    class Meta:
        name = "pours"

    async def quick(self) -> None:
        return None

    async def begin(self, until: str) -> None:
        node = bus.client.engine.node
        assert node is not None
        assert node.presence is not None
        router = node.presence.binding._router
        assert isinstance(router, PouringRouter)
        threading.Thread(target=router.pour, args=[until], daemon=True).start()


bus.client.register_api(PoursApi())

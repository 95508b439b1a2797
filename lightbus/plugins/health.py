"""The plugin `health`: `/live` and `/ready` by HTTP, for whoever restarts processes and sends them work."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from .. import config as settings
from ..engine.peer_api import PeerApi
from ..engine.worker import Worker
from . import LightbusPlugin
from .status_server import LOOPBACK, Answer, PageFunction, StatusServer

__all__ = ["STALLED_AFTER", "HealthPlugin"]

logger = logging.getLogger("lightbus.health")

STALLED_AFTER = 10.0
"""Seconds for which the event loop may stand still before the process counts as dead, if nothing else is said."""

ANSWER_TIMEOUT = 0.8
"""Seconds that the loop has to say how it is: less than the second that a probe of Kubernetes waits."""

JSON = "application/json"


class HealthPlugin(LightbusPlugin):
    """
    Answers two questions, each with 200 or 503 and the reason.

    `/live`: does the event loop go on? Where it has stood still for `stalled_after` seconds, only a restart helps.
    `/ready`: does the worker serve? Not while it starts or stops, its loop stands still, or a listener has stopped.

    Args:
        port: where; 0 is any that is free.
        address: of which address.
        stalled_after: seconds for which the loop may stand still.
        pages: what else is served there, by path.

    Attributes:
        server: what serves them, from before the worker's start to behind its end.
        asked_by: what said where, for errors.

    """

    priority = 50

    class Config(BaseModel):
        """The plugin's settings."""

        model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

        port: int = Field(ge=0, le=65535, description="Serve /live and /ready at this port.")
        address: str = Field(default=LOOPBACK, description="Serve them on this address of the host.")
        stalled_after: float = Field(
            default=STALLED_AFTER, gt=0, description="Seconds for which the event loop may stand still."
        )

    def __init__(
        self,
        *,
        port: int,
        address: str = LOOPBACK,
        stalled_after: float = STALLED_AFTER,
        pages: dict[str, PageFunction] | None = None,
    ) -> None:
        self.server: StatusServer | None = None
        self.asked_by = "HealthPlugin(port=...)"
        self._place = address, port
        self._stalled_after = stalled_after
        self._pages = pages or {}
        self._client: Any = None
        self._serves = False

    @classmethod
    def from_config(
        cls, *, config: settings.Config, port: int = 0, address: str = LOOPBACK, stalled_after: float = STALLED_AFTER
    ) -> HealthPlugin:
        """Make the plugin with the settings of `plugins.health`."""
        plugin = cls(port=port, address=address, stalled_after=stalled_after)
        plugin.asked_by = "plugins.health.port"
        return plugin

    async def before_worker_start(self, *, client: Any) -> None:
        """Begin to answer: alive, and not ready yet."""
        self._client = client
        if self.server is None:
            pages = {"/live": self.live, "/ready": self.ready, **self._pages}
            self.server = StatusServer(*self._place, pages, asked_by=self.asked_by)
            logger.info("The health of this worker is served at %s: %s", self.server.url, " ".join(pages))

    async def after_worker_started(self, *, client: Any) -> None:
        """It is ready from now on."""
        self._serves = True

    async def after_worker_stopped(self, *, client: Any) -> None:
        """Answer no more."""
        self._serves, self._client = False, None
        server, self.server = self.server, None
        if server is not None:
            await asyncio.to_thread(server.stop)

    # The pages

    def live(self) -> Answer:
        """Say whether the event loop goes on."""
        worker = self._worker
        silence = 0.0 if worker is None else worker.watchdog.silence
        if silence > self._stalled_after:
            return Answer(503, f"The event loop has stood still for {silence:.1f} s.\n".encode())
        return Answer(200, b"alive\n")

    def ready(self) -> Answer:
        """Say whether the worker serves, and what is wrong with it in any case."""
        worker = self._worker
        reasons, told = self._reasons(worker)
        body = {"ready": not reasons, "reasons": reasons, "problems": told.get("problems", []), **_identity(worker)}
        return Answer(503 if reasons else 200, f"{json.dumps(body)}\n".encode(), JSON)

    @property
    def _worker(self) -> Worker | None:
        client = self._client
        worker: Worker | None = None if client is None else client.worker
        return worker

    def _reasons(self, worker: Worker | None) -> tuple[list[str], dict[str, Any]]:
        """Return why it is not ready, and what it says of its health."""
        if worker is None or worker.parts is None or not self._serves:
            return ["It is starting."], {}
        if worker.stopping.is_set():
            return ["It is stopping."], {}
        peer = next(each for each in worker.parts.internal_apis if isinstance(each, PeerApi))
        asked = asyncio.run_coroutine_threadsafe(peer.health(), worker.loop)
        began = time.monotonic()
        try:
            told = asked.result(ANSWER_TIMEOUT)
        except TimeoutError:
            asked.cancel()
            waited = time.monotonic() - began
            return [f"Its event loop did not answer within {waited:.1f} s: something blocks it."], {}
        stopped = [
            f"The listener {each.listener} has stopped, since its handler failed: {each.stopped_by}."
            for each in list(worker.parts.consumer.runners)
            if each.stopped_by is not None
        ]
        return stopped, told


def _identity(worker: Worker | None) -> dict[str, str]:
    if worker is None:
        return {}
    me = worker.engine.identity
    return {"service": me.service, "process": me.process, "instance": me.instance}

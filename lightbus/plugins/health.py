"""The plugin `health`: `/live` and `/ready` over HTTP, for process supervisors and load balancers."""

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
"""The default for the seconds that the event loop may be blocked before the process counts as dead."""

ANSWER_TIMEOUT = 0.8
"""Seconds within which the loop must answer: less than the second for which a Kubernetes probe waits."""

JSON = "application/json"


class HealthPlugin(LightbusPlugin):
    """
    Serves two pages, each with 200 or 503 and the reason.

    `/live`: is the event loop running? If it has been blocked for `stalled_after` seconds, only a restart helps.
    `/ready`: does the worker serve? Not while it starts or stops, its loop is blocked, or a listener has stopped.

    Args:
        port: the port; 0 for any free one.
        address: the address to listen on.
        stalled_after: seconds for which the loop may be blocked.
        pages: further pages, by path.

    Attributes:
        server: the HTTP server, which runs from before the worker's start until after its end.
        asked_by: the setting that chose the port, for errors.

    """

    priority = 50

    class Config(BaseModel):
        """The plugin's settings."""

        model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

        port: int = Field(ge=0, le=65535, description="Serve /live and /ready at this port.")
        address: str = Field(default=LOOPBACK, description="Serve them on this address of the host.")
        stalled_after: float = Field(
            default=STALLED_AFTER, gt=0, description="Seconds for which the event loop may be blocked."
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
        """Start the server: alive, and not ready yet."""
        self._client = client
        if self.server is None:
            pages = {"/live": self.live, "/ready": self.ready, **self._pages}
            self.server = StatusServer(*self._place, pages, asked_by=self.asked_by)
            logger.info("The health of this worker is served at %s: %s", self.server.url, " ".join(pages))

    async def after_worker_started(self, *, client: Any) -> None:
        """Answer `ready` from now on."""
        self._serves = True

    async def after_worker_stopped(self, *, client: Any) -> None:
        """Stop the server."""
        self._serves, self._client = False, None
        server, self.server = self.server, None
        if server is not None:
            await asyncio.to_thread(server.stop)

    # The pages

    def live(self) -> Answer:
        """Return the page that says whether the event loop is running."""
        worker = self._worker
        silence = 0.0 if worker is None else worker.watchdog.silence
        if silence > self._stalled_after:
            return Answer(503, f"The event loop has been blocked for {silence:.1f} s.\n".encode())
        return Answer(200, b"alive\n")

    def ready(self) -> Answer:
        """Return the page that says whether the worker serves, with its problems in any case."""
        worker = self._worker
        reasons, health = self._reasons(worker)
        body = {"ready": not reasons, "reasons": reasons, "problems": health.get("problems", []), **_identity(worker)}
        return Answer(503 if reasons else 200, f"{json.dumps(body)}\n".encode(), JSON)

    @property
    def _worker(self) -> Worker | None:
        client = self._client
        worker: Worker | None = None if client is None else client.worker
        return worker

    def _reasons(self, worker: Worker | None) -> tuple[list[str], dict[str, Any]]:
        """Return the reasons why the worker is not ready, and its health report."""
        if worker is None or worker.parts is None or not self._serves:
            return ["It is starting."], {}
        if worker.stopping.is_set():
            return ["It is stopping."], {}
        peer = next(each for each in worker.parts.internal_apis if isinstance(each, PeerApi))
        asked = asyncio.run_coroutine_threadsafe(peer.health(), worker.loop)
        began = time.monotonic()
        try:
            health = asked.result(ANSWER_TIMEOUT)
        except TimeoutError:
            asked.cancel()
            waited = time.monotonic() - began
            return [f"Its event loop did not answer within {waited:.1f} s: something blocks it."], {}
        stopped = [
            f"The listener {each.listener} has stopped, since its handler failed: {each.stopped_by}."
            for each in list(worker.parts.consumer.runners)
            if each.stopped_by is not None
        ]
        return stopped, health


def _identity(worker: Worker | None) -> dict[str, str]:
    if worker is None:
        return {}
    me = worker.engine.identity
    return {"service": me.service, "process": me.process, "instance": me.instance}

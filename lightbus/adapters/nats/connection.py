"""The connection to the servers of a JetStream, made at first use, and what its errors mean."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext

from ...exceptions import EventBackendError
from ...recurring import RecurringLog
from .settings import NatsSettings

__all__ = ["NatsConnection"]

logger = logging.getLogger("lightbus.events")

CLOSE_TIMEOUT = 2.0


class NatsConnection:
    """Only used on the loop that it was made on."""

    def __init__(self, settings: NatsSettings) -> None:
        self.settings = settings
        self._client: Client | None = None
        self._connecting = asyncio.Lock()
        self._failures = RecurringLog(logger)

    async def jetstream(self) -> JetStreamContext:
        """Return what speaks to the servers. Raises EventBackendError where none answers."""
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                self._client = await self._connect()
        if not self._client.is_connected:
            raise EventBackendError(self._text("is not connected at the moment"))
        return self._client.jetstream(timeout=self.settings.timeout)

    async def _connect(self) -> Client:
        client, settings = Client(), self.settings
        connecting = client.connect(
            list(settings.servers),
            connect_timeout=max(1, round(settings.timeout)),
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type,unused-ignore]
            error_cb=self._on_error,
            **self._credentials(),
        )
        with self.explained():
            try:
                await asyncio.wait_for(connecting, settings.timeout)  # it would go on trying for ever
            except BaseException:
                await client.close()
                raise
        return client

    def _credentials(self) -> dict[str, Any]:
        settings = self.settings
        given = {"user": settings.user, "password": settings.password, "user_credentials": settings.credentials}
        return {name: value for name, value in given.items() if value is not None}

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Say of what goes wrong at the servers what it means."""
        try:
            yield
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise EventBackendError(self._text(f"does not answer: {type(error).__name__}: {error}")) from error

    def _text(self, what: str) -> str:
        return (
            f"The JetStream at {', '.join(self.settings.servers)} {what}. See whether the servers run with -js and "
            "take these credentials (apis.<name>.events)."
        )

    async def _on_error(self, error: Exception) -> None:
        text = "The JetStream at %s: %s: %s"
        name = type(error).__name__
        self._failures.say("error", logging.WARNING, text, ", ".join(self.settings.servers), name, error)

    async def close(self) -> None:
        """Leave nothing running."""
        client, self._client = self._client, None
        if client is not None:
            try:
                await asyncio.wait_for(client.close(), CLOSE_TIMEOUT)
            except (OSError, nats.errors.Error):
                logger.debug("The connection to %s was not closed in time", self.settings.servers)

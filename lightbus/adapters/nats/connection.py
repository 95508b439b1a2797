"""The connection to the servers of a JetStream, made at first use, and the meaning of its errors."""

from __future__ import annotations

import asyncio
import logging
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

import nats.errors
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.errors import NoStreamResponseError, ServiceUnavailableError

from ...exceptions import EventBackendError, EventBackendUnreachable
from ...recurring import RecurringLog
from .publishing import PublishingChannel
from .settings import NatsSettings

__all__ = ["NatsConnection"]

logger = logging.getLogger("lightbus.events")

CLOSE_TIMEOUT = 2.0

TIMEOUT_FACTOR = 10
"""Times `timeout` after which a request has failed, however many answers it needs."""

PING_EVERY = 2.5
MOST_PINGS = 1
"""
Times `timeout` between two pings, and how many may be unanswered: a connection whose server is gone without notice, or
hangs, is given up after 5 times `timeout` at most, and made again.
"""

AGAIN_AFTER = 0.5
"""Seconds after a failed attempt to connect in which further requests fail at once."""

UNAVAILABLE_ERRORS = (
    OSError,
    TimeoutError,
    nats.errors.NoRespondersError,
    nats.errors.NoServersError,
    nats.errors.StaleConnectionError,
    nats.errors.ConnectionClosedError,
    nats.errors.ConnectionReconnectingError,
    nats.errors.OutboundBufferLimitError,
    NoStreamResponseError,
    ServiceUnavailableError,
)
"""Errors of servers that are unreachable or not ready: the same request may work later."""


class NatsConnection:
    """The connection of one process. Only used on the loop that it was made on."""

    def __init__(self, settings: NatsSettings) -> None:
        self.settings = settings
        self._client: Client | None = None
        self._publishing: PublishingChannel | None = None
        self._connecting = asyncio.Lock()
        self._is_closed = False
        self._failed_at = -AGAIN_AFTER
        self._last_error: Exception | None = None
        """The last error of the servers since we were connected."""
        self._failures = RecurringLog(logger)

    async def client(self) -> Client:
        """Return the connected client. Raises EventBackendError."""
        async with self._connecting:
            if self._client is None or self._client.is_closed:
                if self._is_closed or time.monotonic() - self._failed_at < AGAIN_AFTER:
                    raise self._not_connected()
                try:
                    self._client = await self._connect()
                except BaseException:
                    self._failed_at = time.monotonic()
                    raise
        if not self._client.is_connected:
            raise self._not_connected()
        return self._client

    async def jetstream(self) -> JetStreamContext:
        """Return the JetStream context of the client. Raises EventBackendError."""
        return (await self.client()).jetstream(timeout=self.settings.timeout)

    async def publishing(self) -> PublishingChannel:
        """Return the channel to publish with. Raises EventBackendError."""
        client = await self.client()
        if self._publishing is None or self._publishing.client is not client:
            channel = PublishingChannel(client)
            async with self.asking():
                await channel.open()
            self._publishing = channel
        return self._publishing

    async def _connect(self) -> Client:
        client, settings = Client(), self.settings
        self._last_error = None
        connecting = client.connect(
            list(settings.servers),
            connect_timeout=max(1, round(settings.timeout)),
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.25,  # type: ignore[arg-type,unused-ignore]
            ping_interval=PING_EVERY * settings.timeout,  # type: ignore[arg-type,unused-ignore]
            max_outstanding_pings=MOST_PINGS,
            pending_size=0,  # no buffer while disconnected: requests fail at once
            error_cb=partial(self._on_client_error, client),
            reconnected_cb=self._on_connected,
            **self._credentials(),
        )
        try:
            async with asyncio.timeout(settings.timeout):  # the client would retry for ever
                await connecting
        except TimeoutError:
            await client.close()
            raise self._not_connected() from self._last_error
        except (nats.errors.Error, OSError) as error:
            await client.close()
            await self._on_error(error)
            raise self._not_connected() from error
        except BaseException:
            await client.close()
            raise
        await self._on_connected()
        return client

    def _credentials(self) -> dict[str, Any]:
        settings = self.settings
        given = {
            "user": settings.user,
            "password": settings.password,
            "user_credentials": settings.credentials,
            "tls": settings.tls,
        }
        return {name: value for name, value in given.items() if value is not None}

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise errors of the client as errors of the event backend."""
        try:
            yield
        except UNAVAILABLE_ERRORS as error:
            raise self.unreachable(f"{type(error).__name__}: {error}".rstrip(": ")) from error
        except nats.errors.Error as error:
            raise EventBackendError(self._text(f"refuses the request: {type(error).__name__}: {error}.")) from error

    @asynccontextmanager
    async def asking(self) -> AsyncIterator[None]:
        """As `explained`, with a timeout: a client whose connection breaks may never answer a request."""
        with self.explained():
            async with asyncio.timeout(TIMEOUT_FACTOR * self.settings.timeout):
                yield

    def unreachable(self, why: str) -> EventBackendUnreachable:
        """Return the error for servers that do not answer."""
        return EventBackendUnreachable(self._text(f"does not answer ({why}). Check that the servers run, with -js."))

    def _not_connected(self) -> EventBackendError:
        error = self._last_error
        if error is not None and _is_refusal(error):
            remedy = "Give `user` and `password`, or `credentials`, of an account that may use JetStream"
            if isinstance(error, ssl.SSLError):
                remedy = "Give `tls_ca`, a file with the certificate by which to check that of the servers"
            return EventBackendError(self._text(f"refuses access: {error}. {remedy} (apis.<name>.events)."))
        why = "no connection within" if error is None else f"{type(error).__name__}: {error}".rstrip(": ") + ","
        return self.unreachable(f"{why} {self.settings.timeout:g} s")

    def _text(self, what: str) -> str:
        return f"The JetStream at {self.settings.places} {what}"

    async def _on_connected(self) -> None:
        self._last_error = None
        self._failures.recovered("error")

    async def _on_client_error(self, client: Client, error: Exception) -> None:
        if not client.is_connected and client._transport is not None:
            client._transport.close()  # type: ignore[no-untyped-call]  # nats-py leaves it open if there is no answer
        await self._on_error(error)

    async def _on_error(self, error: Exception) -> None:
        if self._last_error is None or not _is_refusal(self._last_error):  # errors after a refusal say less
            self._last_error = error
        text = "The JetStream at %s: %s: %s"
        name = type(error).__name__
        self._failures.log("error", logging.WARNING, text, self.settings.places, name, error)

    async def close(self) -> None:
        """Close the connection; no later request opens it again."""
        self._is_closed = True  # later requests must not connect again
        async with self._connecting:
            client, self._client = self._client, None
        if client is not None:
            try:
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await client.close()
            except (OSError, nats.errors.Error):
                logger.debug("The connection to %s was not closed in time", self.settings.places)
            finally:
                if (transport := client._transport) is not None:  # nats-py leaves it open where the last write fails
                    transport.close()  # type: ignore[no-untyped-call]


def _is_refusal(error: Exception) -> bool:
    text = str(error).lower()
    return (
        isinstance(error, nats.errors.AuthorizationError | ssl.SSLCertVerificationError)
        or "authorization" in text
        or "authentication" in text
    )

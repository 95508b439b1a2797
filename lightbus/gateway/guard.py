"""
The outermost layer of the gateway: checks each request before anything else handles it.

A request must name a host of this gateway, come from an allowed origin, be within the rate limit, and have a token.
There are no cookies, so a browser adds no credentials to a request that another site makes it send.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import time
from collections.abc import Mapping

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..recurring import RecurringLog
from ..web.heads import MAX_HEAD, MAX_TARGET, head_size, is_length_ambiguous, is_length_beyond, target_size
from ..web.hosts import HostNames
from .clients import Client
from .options import GatewayOptions
from .problems import Refusal
from .rates import RateLimit

__all__ = ["HEADERS", "OPEN_TO_ALL", "GatewayGuard"]

logger = logging.getLogger("lightbus.gateway")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

OPEN_TO_ALL = {"/", "/page.js", "/page.css"}
"""Paths that need no token: a page that shows nothing until the user enters one."""

ASKED_OF_BROWSERS = {
    "Access-Control-Allow-Methods": "GET, POST",
    "Access-Control-Allow-Headers": "authorization, content-type, last-event-id, lightbus-timeout, traceparent",
    "Access-Control-Max-Age": "600",
}


class GatewayGuard:
    """The ASGI middleware that refuses requests, and adds the security and CORS headers to answers."""

    def __init__(self, app: ASGIApp, options: GatewayOptions) -> None:
        self._app = app
        self._options = options
        self._names = HostNames(options.names)
        self._rates = RateLimit(options.rate)
        self._log = RecurringLog(logger)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        origin = headers.get("origin", "")
        is_foreign = bool(origin) and origin.lower() in self._options.origins
        added = [*_ADDED, *(_raw(_for_origin(origin)) if is_foreign else ())]

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                answered = message["headers"] = list(message.get("headers", ()))
                there = {name for name, _ in answered}
                answered += [each for each in added if each[0] not in there]
            await send(message)

        answer: ASGIApp = self._app
        try:
            self._check_request(scope, headers)
            self._check_origin(headers, origin, is_foreign=is_foreign)
            if is_foreign and scope["method"] == "OPTIONS":
                answer = Response(status_code=204, headers=ASKED_OF_BROWSERS)
            else:
                scope.setdefault("state", {})["client"] = self._admitted(scope, headers)
        except Refusal as refusal:
            answer = refusal.answer()
        await answer(scope, receive, send_with_headers)

    def _check_request(self, scope: Scope, headers: Headers) -> None:
        host = headers.get("host", "")
        if not self._names.has(host):
            raise Refusal(
                421,
                "wrong_host",
                f"This gateway does not serve the host {host!r:.100}. To allow a name: --allow-host NAME.",
            )
        if b"%" in scope["raw_path"]:
            # No path of the gateway needs it, and a proxy with rules about paths may decode it differently.
            raise Refusal(404, "not_found", "The path must not be percent-encoded: write it as it is.")
        if target_size(scope) > MAX_TARGET:
            raise Refusal(414, "too_long", f"A path and its query have {MAX_TARGET} bytes at most.")
        if head_size(scope) > MAX_HEAD:
            raise Refusal(431, "too_large", f"A request's head has {MAX_HEAD} bytes at most.", Connection="close")
        if is_length_ambiguous(headers):
            raise Refusal(400, "bad_request", "A request must state its length once: by Content-Length, or in chunks.")
        if is_length_beyond(headers, self._options.max_body):
            raise Refusal(
                413, "too_large", f"A request's body has {self._options.max_body} bytes at most.", Connection="close"
            )

    def _check_origin(self, headers: Headers, origin: str, *, is_foreign: bool) -> None:
        is_own = origin.partition("://")[2].lower() == headers.get("host", "").lower()
        if origin and not (is_own or is_foreign):
            raise Refusal(
                403, "wrong_origin", f"Pages of {origin!r:.100} may not ask here. To let them: --allow-origin ORIGIN."
            )

    def _admitted(self, scope: Scope, headers: Headers) -> Client | None:
        """Return the client that sends the request; None for a path that needs no token. Raises Refusal."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        client = self._options.clients.with_token(token.strip()) if scheme.lower() == "bearer" else None
        if client is not None:
            self._check_rate(f"client {client.name}")
            return client
        address = _network(scope)
        self._check_rate(address)
        if scope["path"] not in OPEN_TO_ALL:
            self._log.log("token", logging.WARNING, "A request without a valid token was refused: %s", address)
            raise Refusal(
                401, "no_token", "Send a token of this gateway: Authorization: Bearer TOKEN.", WWW_Authenticate="Bearer"
            )
        return None

    def _check_rate(self, who: str) -> None:
        seconds = self._rates.wait(who, time.monotonic())
        if seconds:
            text = f"{self._options.rate:g} requests a second are answered to each client."
            self._log.log(("rate", who), logging.WARNING, "%s sends too many requests: %s", who, text)
            raise Refusal(429, "too_many", text, Retry_After=str(math.ceil(seconds)))


def _raw(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Return headers in ASGI form."""
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


_ADDED = _raw(HEADERS)
"""The headers of every answer, made once."""


def _for_origin(origin: str) -> Mapping[str, str]:
    exposed = "Retry-After"
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": exposed, "Vary": "Origin"}


def _network(scope: Scope) -> str:
    """Return the source of a request for rate limiting: an IPv4 address, or the /64 network of an IPv6 address."""
    address = str((scope.get("client") or ("",))[0])
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(ipaddress.ip_network((parsed, 64), strict=False)) if parsed.version == 6 else address

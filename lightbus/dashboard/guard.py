"""
Access control: checks each request before the dashboard handles it.

A page of another site in this user's browser can send requests to the dashboard, and its own host name may resolve to
our address (DNS rebinding). So the requested host must be one of ours, the origin must be the same, and without a
token only programs of this user are answered.
"""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request, cookie_parser
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..web.bodies import MAX_BODY
from ..web.heads import MAX_HEAD, MAX_TARGET, head_size, is_length_ambiguous, is_length_beyond, target_size
from ..web.hosts import HostNames
from ..web.tokens import is_same
from .options import DashboardOptions
from .same_user import is_of_own_user

__all__ = ["HEADERS", "AccessGuard"]

OPEN_TO_ALL = {"/login", "/assets/app.css", "/assets/icon.svg"}
"""The paths that need no access: the page that asks for the token."""

PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
"""The headers that a proxy adds: then the connection belongs to the proxy's user, not to the client's."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # With `no-referrer`, browsers send `Origin: null` with a form: then no one could send the token.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AccessGuard:
    """The outermost part of the application: refuses requests, and adds the headers that keep other sites out."""

    def __init__(self, app: ASGIApp, options: DashboardOptions) -> None:
        self._app = app
        self._options = options
        self._names = HostNames(options.names)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        answer = self._refusal(scope) or self._login(scope)
        await (answer or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._names.has(host):
            return _no(
                421, f"This dashboard does not serve the host {host!r:.100}. To allow a name: --allow-host NAME."
            )
        if target_size(scope) > MAX_TARGET:
            return _no(414, "The address is too long.")
        if head_size(scope) > MAX_HEAD:
            return _no(431, f"The head of a request may have up to {MAX_HEAD} bytes.")
        if not _is_same_origin(scope, headers, host):
            return _no(403, "Only the dashboard's own pages may ask for this.")
        if is_length_ambiguous(headers):
            return _no(400, "A request gives its length once: by Content-Length or in chunks.")
        if is_length_beyond(headers, MAX_BODY):
            return _no(413, f"The body of a request may have up to {MAX_BODY} bytes.")
        return None

    def _login(self, scope: Scope) -> Response | None:
        if self.is_admitted(scope) or scope["path"] in OPEN_TO_ALL:
            return None
        if scope["path"] == "/" and scope["method"] == "GET":
            return Response(status_code=303, headers={"Location": "/login"})
        return _no(401, "Access denied. Open the address that `lightbus dashboard` shows, or send its token.")

    def is_admitted(self, scope: Scope) -> bool:
        """Return whether the client is a program of this user on this host, or has the token."""
        headers = Headers(scope=scope)
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if is_same(given, self._options.token) or is_same(self._cookie(scope, headers), self._options.token):
            return True
        if not self._options.trusts_own_user or any(name in headers for name in PASSED_ON):
            return False
        client, server = scope.get("client"), scope.get("server")
        return client is not None and server is not None and is_of_own_user(tuple(client), tuple(server))

    def _cookie(self, scope: Scope, headers: Headers) -> str:
        # Not by `http.cookies`: it reads none if one has a form of its own, and the programs of a host share cookies.
        found: str = cookie_parser(headers.get("cookie", "")).get(cookie_name(scope), "")
        return found


def cookie_name(scope: Scope) -> str:
    """Return the name of the cookie with the token. It contains the port, since the ports of a host share cookies."""
    return f"lightbus-dashboard-{(scope.get('server') or ('', 0))[1]}"


def admit(request: Request, options: DashboardOptions, token: str) -> Response | None:
    """Return the response that gives a browser access, if it sent the right token; else None."""
    if not is_same(token, options.token):
        return None
    answer = Response(status_code=303, headers={"Location": "/"})
    answer.set_cookie(cookie_name(request.scope), token, httponly=True, samesite="strict")
    return answer


def _is_same_origin(scope: Scope, headers: Headers, host: str) -> bool:
    origin: str | None = headers.get("origin")
    if origin is not None:
        return origin.partition("://")[2].lower() == host.lower()
    site = headers.get("sec-fetch-site", "none")
    if site in ("none", "same-origin"):
        return True
    # A link from another site may open the page, which contains no data; the requests of the page itself are ours.
    is_link: bool = headers.get("sec-fetch-dest") == "document"
    return is_link and scope["method"] == "GET" and scope["path"] == "/"


def _no(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status_code=status)

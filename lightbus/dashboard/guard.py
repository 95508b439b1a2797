"""
Who may ask what: stands before everything else that the dashboard serves.

A page of another site in this user's browser can send requests here, and a name of its own may lead to this address
(DNS rebinding). So the host that is asked for has to be one of ours, the origin has to be the same, and without a
token only a program of this very user is answered.
"""

from __future__ import annotations

from http.cookies import CookieError, SimpleCookie

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ..web.bodies import MAX_BODY
from ..web.heads import MAX_HEAD, MAX_TARGET, head_size, target_size
from ..web.hosts import HostNames
from ..web.tokens import is_same
from .options import DashboardOptions
from .same_user import is_of_own_user

__all__ = ["HEADERS", "AccessGuard"]

OPEN_TO_ALL = {"/login", "/assets/app.css", "/assets/icon.svg"}
"""What who is not admitted may see: the page that asks for the token."""

PASSED_ON = ("forwarded", "via", "x-forwarded-for", "x-real-ip")
"""What a proxy adds: then the connection is its user's, and not that of who asks."""

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Where none is told, as by `no-referrer`, browsers say `Origin: null` with a form: nobody could give the token.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class AccessGuard:
    """The outermost part of the application: refuses, and adds the headers that keep other sites out."""

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
                421, f"This dashboard is not called {host!r:.100}. To have it answer to a name: --allow-host NAME."
            )
        if target_size(scope) > MAX_TARGET:
            return _no(414, "The address is too long.")
        if head_size(scope) > MAX_HEAD:
            return _no(431, f"The head of a request may have {MAX_HEAD} bytes.")
        if not _is_same_origin(scope, headers, host):
            return _no(403, "Only the dashboard's own pages may ask for this.")
        if (length := headers.get("content-length", "0")) and (not length.isdecimal() or int(length) > MAX_BODY):
            return _no(413, f"A request may have {MAX_BODY} bytes.")
        return None

    def _login(self, scope: Scope) -> Response | None:
        if self.is_admitted(scope) or scope["path"] in OPEN_TO_ALL:
            return None
        if scope["path"] == "/" and scope["method"] == "GET":
            return Response(status_code=303, headers={"Location": "/login"})
        return _no(401, "Who are you? Open the address that `lightbus dashboard` shows, or give its token.")

    def is_admitted(self, scope: Scope) -> bool:
        """Return whether who asks is this user on this host, or knows the token."""
        headers = Headers(scope=scope)
        given = headers.get("authorization", "").removeprefix("Bearer ")
        if is_same(given, self._options.token) or is_same(self._cookie(scope, headers), self._options.token):
            return True
        if not self._options.trusts_own_user or any(name in headers for name in PASSED_ON):
            return False
        client, server = scope.get("client"), scope.get("server")
        return client is not None and server is not None and is_of_own_user(tuple(client), tuple(server))

    def _cookie(self, scope: Scope, headers: Headers) -> str:
        try:
            cookies = SimpleCookie(headers.get("cookie", ""))
        except CookieError:
            return ""
        found = cookies.get(cookie_name(scope))
        return "" if found is None else found.value


def cookie_name(scope: Scope) -> str:
    """Return the name of the cookie that holds the token: ports of one host share their cookies."""
    return f"lightbus-dashboard-{(scope.get('server') or ('', 0))[1]}"


def admit(request: Request, options: DashboardOptions, token: str) -> Response | None:
    """Return the answer that lets a browser in which has given a token; None where that is not the one."""
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
    # Who follows a link to the page from elsewhere sees the page, which holds nothing; what it then asks is its own.
    is_link: bool = headers.get("sec-fetch-dest") == "document"
    return is_link and scope["method"] == "GET" and scope["path"] == "/"


def _no(status: int, text: str) -> Response:
    return PlainTextResponse(text + "\n", status_code=status)

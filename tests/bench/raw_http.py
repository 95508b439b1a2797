"""The reference for the gateway: a bare Starlette route, with the same server. It prints its URL, and serves."""

from __future__ import annotations

import json
import socket

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


async def answer(request: Request) -> Response:
    """Read the arguments, and answer as a procedure would."""
    given = json.loads(await request.body())
    return JSONResponse(given["password"] == "secret")


def main() -> None:
    """Serve at any port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as the gateway: no body waits for its head
        print(json.dumps({"url": f"http://127.0.0.1:{listening.getsockname()[1]}/", "token": ""}), flush=True)
        app = Starlette(routes=[Route("/api/auth/check_password", answer, methods=["POST"])])
        config = uvicorn.Config(app, http="h11", ws="none", lifespan="off", log_config=None, access_log=False)
        uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    main()

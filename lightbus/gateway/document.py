"""The OpenAPI document of the procedures and events that a client may use."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from typing import Any

from ..cli.schemas.gathering import DescribedApi, described_on_bus
from ..cli.specifications.openapi import openapi_document
from ..cli.support.connection import Connection
from ..exceptions import LightbusException
from ..recurring import RecurringLog
from ..typing import JsonSchema
from .access import Permission
from .clients import Client
from .options import GatewayOptions
from .problems import MAX_SECONDS, TIMEOUT

__all__ = ["Documents", "document_of"]

logger = logging.getLogger("lightbus.gateway")

ASK_AGAIN = 5.0
"""Seconds after which a peer that did not send its schema is asked again: a client may ask a hundred times a second."""

PROBLEM: JsonSchema = {
    "type": "object",
    "required": ["title", "status", "detail", "error"],
    "properties": {
        "title": {"type": "string", "description": "What the status is called."},
        "status": {"type": "integer"},
        "detail": {"type": "string", "description": "What happened, to what, and what to do."},
        "error": {"type": "string", "description": "The error's code, as `lightbus call --json` has it."},
    },
}

SECONDS = {
    "name": TIMEOUT,
    "in": "header",
    "description": "The timeout, in seconds.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_SECONDS},
}


class Documents:
    """
    The documents of a gateway.

    Peers are asked for schemas again only when the served APIs have changed, or one is missing.
    """

    def __init__(self, bus: Connection, options: GatewayOptions) -> None:
        self._bus = bus
        self._options = options
        self._lock = asyncio.Lock()
        self._served: frozenset[tuple[str, int, str]] | None = None
        self._apis: dict[str, DescribedApi] = {}
        self._ask_at = math.inf
        """When to ask again for what is missing, by time.monotonic()."""
        self._failures = RecurringLog(logger)

    async def of(self, client: Client) -> dict[str, Any]:
        """Return the document for a client. Raises NotReachable if there is no peer on the bus."""
        async with self._lock:
            served = self._now()
            if not served or served != self._served or time.monotonic() >= self._ask_at:
                failed: dict[str, LightbusException] = {}
                self._apis = await described_on_bus(self._bus, is_wanted=self._is_wanted, on_failure=failed.__setitem__)
                # As before the questions: what comes while they are asked is not described yet.
                self._served = served
                self._ask_at = time.monotonic() + ASK_AGAIN if failed else math.inf
                for api, error in failed.items():
                    text = "%s is missing in the OpenAPI document until its worker sends its schema: %s"
                    self._failures.log(api, logging.WARNING, text, api, error)
        return document_of(self._apis, self._options, client)

    def _now(self) -> frozenset[tuple[str, int, str]]:
        peers = self._bus.client.engine.snapshot.peers.values()
        infos = (info for peer in peers if peer.is_up for info in peer.announcement.apis or ())
        return frozenset((info.name, info.version, info.digest) for info in infos if self._is_wanted(info.name))

    def _is_wanted(self, api: str) -> bool:
        return any(self._options.rules.allow_some(permission, api) for permission in Permission)


def document_of(apis: dict[str, DescribedApi], options: GatewayOptions, client: Client) -> dict[str, Any]:
    """Return the document of the members of these APIs that a client may use."""
    allowed = {name: _allowed(api, options, client) for name, api in apis.items()}
    allowed = {name: api for name, api in allowed.items() if api.schema["rpcs"] or api.schema["events"]}
    document = openapi_document(allowed, title="The bus over HTTP", servers=["/api"])
    fired = document.pop("webhooks", {})
    for path in document["paths"].values():
        _complete(path["post"])
    for name, api in sorted(allowed.items()):
        for event in sorted(api.schema["events"]):
            may = {
                permission: options.allow(client, permission, name, event)
                for permission in (Permission.FIRE, Permission.LISTEN)
            }
            post = _fired(fired[f"{name}.{event}"]["post"])
            document["paths"][f"/{name}/{event}"] = {
                **({"post": post} if may[Permission.FIRE] else {}),
                **({"get": _streamed(name, event, post)} if may[Permission.LISTEN] else {}),
            }
    document["components"]["responses"] = {
        "Error": {"description": "It was not done.", "content": {"application/problem+json": {"schema": PROBLEM}}}
    }
    document["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
    document["security"] = [{"token": []}]
    return document


def _allowed(api: DescribedApi, options: GatewayOptions, client: Client) -> DescribedApi:
    """Return an API reduced to the members that a client may use."""

    def may(name: str, *permissions: Permission) -> bool:
        return any(options.allow(client, permission, api.name, name) for permission in permissions)

    schema = {
        "rpcs": {name: each for name, each in api.schema["rpcs"].items() if may(name, Permission.CALL)},
        "events": {
            name: each for name, each in api.schema["events"].items() if may(name, Permission.FIRE, Permission.LISTEN)
        },
    }
    return DescribedApi(name=api.name, schema=schema, version=api.version, doc=api.doc, events=api.events)


def _complete(operation: dict[str, Any]) -> None:
    operation["parameters"] = [SECONDS]


def _fired(operation: dict[str, Any]) -> dict[str, Any]:
    ids = {name: {"type": "string"} for name in ("id", "native_id")}
    done = {"content": {"application/json": {"schema": {"type": "object", "properties": ids}}}}
    responses = {
        "200": {"description": "The event is kept by a publisher.", **done},
        "202": {"description": "It waits at the gateway until a publisher takes it.", **done},
        "default": {"$ref": "#/components/responses/Error"},
    }
    return {
        **operation,
        "operationId": f"{operation['operationId']}.fire",
        "parameters": [SECONDS],
        "responses": responses,
    }


def _streamed(api: str, event: str, fired: dict[str, Any]) -> dict[str, Any]:
    texts: dict[str, Any] = {word: fired[word] for word in ("summary", "description") if word in fired}
    parameters = [
        {
            "name": "Last-Event-ID",
            "in": "header",
            "description": "The id of the event that came last: the stream goes on behind it.",
            "schema": {"type": "string"},
        },
        {
            "name": "since",
            "in": "query",
            "description": "0 for everything that is kept, or a date and time.",
            "schema": {"type": "string"},
        },
    ]
    return {
        "operationId": f"{api}.{event}.listen",
        "tags": [api],
        **texts,
        "parameters": parameters,
        "responses": {
            "200": {"description": "The events as they happen.", "content": {"text/event-stream": {"schema": {}}}},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }

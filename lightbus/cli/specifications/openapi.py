"""The APIs on a bus as an OpenAPI document, version 3.1, for gateways and for generators of clients.

A procedure is a POST to `/API/PROCEDURE` with its arguments as a JSON object. An event is a webhook of its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...typing import JsonSchema
from ..schemas.gathering import DescribedApi
from .definitions import Definitions
from .words import document_version, split_doc, texts

__all__ = ["openapi_document"]

JSON = "application/json"

ERROR: JsonSchema = {
    "type": "object",
    "required": ["error", "message"],
    "properties": {
        "error": {"type": "string", "description": "The error's code, as `lightbus call --json` has it."},
        "message": {"type": "string", "description": "What happened, to what, and what to do."},
    },
}


def openapi_document(
    apis: Mapping[str, DescribedApi], *, title: str, version: str | None = None, servers: Sequence[str] = ()
) -> dict[str, Any]:
    """
    Return the document of these APIs.

    Args:
        apis: by name.
        title: the title of the document.
        version: the version of the document; by default that of the API, if there is only one.
        servers: the URLs of servers that accept the calls.

    """
    definitions = Definitions()
    paths: dict[str, Any] = {}
    webhooks: dict[str, Any] = {}
    for name in sorted(apis):
        api = apis[name]
        for member, parts in sorted(api.schema["rpcs"].items()):
            paths[f"/{name}/{member}"] = {"post": _procedure(api, member, parts, definitions)}
        for member, parts in sorted(api.schema["events"].items()):
            webhooks[f"{name}.{member}"] = {"post": _event(api, member, parts, definitions)}
    return {
        "openapi": "3.1.0",
        "info": {"title": title, "version": document_version(apis, version)},
        **({"servers": [{"url": url} for url in servers]} if servers else {}),
        "tags": [{"name": api.name, **texts(description=api.doc)} for _, api in sorted(apis.items())],
        "paths": paths,
        **({"webhooks": webhooks} if webhooks else {}),
        "components": {
            "schemas": definitions.schemas,
            "responses": {"Error": {"description": "It was not done.", **_content(ERROR)}},
        },
    }


def _procedure(api: DescribedApi, name: str, parts: JsonSchema, definitions: Definitions) -> dict[str, Any]:
    doc, arguments = split_doc(parts["parameters"])
    result = definitions.place(parts.get("response", {}), api.name)
    return {
        "operationId": f"{api.name}.{name}",
        "tags": [api.name],
        **doc,
        "requestBody": _body(api, arguments, definitions),
        "responses": {
            "200": {"description": "The result.", **_content(result)},
            "default": {"$ref": "#/components/responses/Error"},
        },
    }


def _event(api: DescribedApi, name: str, parts: JsonSchema, definitions: Definitions) -> dict[str, Any]:
    doc, arguments = split_doc(parts["parameters"])
    declared = api.events.get(name, {})
    return {
        "operationId": f"{api.name}.{name}",
        "tags": [api.name],
        **doc,
        "requestBody": _body(api, arguments, definitions),
        "responses": {"2XX": {"description": "The event was handled."}},
        **{f"x-lightbus-{word}": declared[word] for word in ("delivery", "key", "version") if declared.get(word)},
    }


def _body(api: DescribedApi, arguments: Any, definitions: Definitions) -> dict[str, Any]:
    is_required = isinstance(arguments, dict) and bool(arguments.get("required"))
    return {"required": is_required, **_content(definitions.place(arguments, api.name))}


def _content(schema: Any) -> dict[str, Any]:
    return {"content": {JSON: {"schema": schema}}}

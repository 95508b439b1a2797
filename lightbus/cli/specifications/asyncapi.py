"""The APIs on a bus as an AsyncAPI document, version 3.0.

It describes the servers' side: they receive calls and reply, and send events. Payloads are the arguments and results,
in JSON Schema draft 7, which AsyncAPI requires.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...typing import JsonSchema
from ..schemas.gathering import DescribedApi
from .definitions import Definitions, key
from .words import document_version, split_doc, texts

__all__ = ["asyncapi_document"]

CONTENT = "application/vnd.msgpack"
"""The IANA media type of messages on the bus."""


def asyncapi_document(apis: Mapping[str, DescribedApi], *, title: str, version: str | None = None) -> dict[str, Any]:
    """
    Return the document of these APIs.

    Args:
        apis: by name.
        title: the title of the document.
        version: the version of the document; by default that of the API, if there is only one.

    """
    document = _Document()
    for name in sorted(apis):
        document.add(apis[name])
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": title,
            "version": document_version(apis, version),
            "tags": [{"name": api.name, **texts(description=api.doc)} for _, api in sorted(apis.items())],
        },
        "defaultContentType": CONTENT,
        "channels": document.channels,
        "operations": document.operations,
        "components": {"messages": document.messages, "schemas": document.definitions.schemas},
    }


class _Document:
    def __init__(self) -> None:
        self.channels: dict[str, Any] = {}
        self.operations: dict[str, Any] = {}
        self.messages: dict[str, Any] = {}
        self.definitions = Definitions(_as_draft_7)

    def add(self, api: DescribedApi) -> None:
        """Add the members of an API."""
        for name, parts in sorted(api.schema["rpcs"].items()):
            self._procedure(api, name, parts)
        for name, parts in sorted(api.schema["events"].items()):
            self._event(api, name, parts)

    def _procedure(self, api: DescribedApi, name: str, parts: JsonSchema) -> None:
        full = f"{api.name}.{name}"
        doc, arguments = split_doc(parts["parameters"])
        messages = {
            "arguments": self._message(f"{full}.arguments", f"Arguments of {full}", arguments, api),
            "result": self._message(f"{full}.result", f"Result of {full}", parts.get("response", {}), api),
        }
        channel = self._channel(full, f"Calls of {full}, and their answers.", messages)
        self.operations[key(full)] = {
            "action": "receive",
            "channel": channel,
            **doc,
            "tags": [{"name": api.name}],
            "messages": [{"$ref": f"{channel['$ref']}/messages/arguments"}],
            "reply": {"channel": channel, "messages": [{"$ref": f"{channel['$ref']}/messages/result"}]},
        }

    def _event(self, api: DescribedApi, name: str, parts: JsonSchema) -> None:
        full = f"{api.name}.{name}"
        doc, arguments = split_doc(parts["parameters"])
        channel = self._channel(full, f"The event {full}.", {"event": self._message(full, full, arguments, api)})
        declared = api.events.get(name, {})
        self.operations[key(full)] = {
            "action": "send",
            "channel": channel,
            **doc,
            "tags": [{"name": api.name}],
            "messages": [{"$ref": f"{channel['$ref']}/messages/event"}],
            **{f"x-lightbus-{word}": declared[word] for word in ("delivery", "key", "version") if declared.get(word)},
        }

    def _channel(self, address: str, description: str, messages: dict[str, Any]) -> dict[str, str]:
        self.channels[key(address)] = {"address": address, "description": description, "messages": messages}
        return {"$ref": f"#/channels/{key(address)}"}

    def _message(self, name: str, title: str, payload: Any, api: DescribedApi) -> dict[str, str]:
        placed = self.definitions.place(payload, api.name)
        if isinstance(placed, bool):  # a valid schema, but no valid payload in AsyncAPI
            placed = {} if placed else {"not": {}}
        self.messages[key(name)] = {"name": name, "title": title, "payload": placed}
        return {"$ref": f"#/components/messages/{key(name)}"}


def _as_draft_7(schema: JsonSchema) -> JsonSchema:
    """Convert a schema of draft 2020-12, whose parts were converted already, to draft 7."""
    changed = dict(schema)
    changed.pop("discriminator", None)  # has another meaning in AsyncAPI, and is not needed to distinguish the choices
    if "prefixItems" in changed:
        changed["additionalItems"] = changed.pop("items", True)
        changed["items"] = changed.pop("prefixItems")
    if "$ref" in changed and len(changed) > 1:  # draft 7 ignores keywords beside a reference
        changed = {"allOf": [{"$ref": changed.pop("$ref")}, *changed.pop("allOf", ())], **changed}
    return changed

"""The plugin `log_context`: adds the call or event being handled to log records.

`JsonFormatter` (`lightbus.json_logs`) writes these fields into each record; `add_log_fields` does the same as a
processor of structlog.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from typing import Any

from ..message import EventMessage, RpcMessage
from ..tracing import trace_id_of, trace_of_execution
from . import LightbusPlugin

__all__ = ["GroupNames", "LogContextPlugin", "add_log_fields", "log_fields"]

_fields: ContextVar[dict[str, str] | None] = ContextVar("lightbus_log_fields", default=None)


def log_fields() -> dict[str, str]:
    """
    Return the log fields of the call or event that this code handles; empty outside of both.

    For a call `api`, `procedure` and `call_id`; for an event `api`, `event`, `event_id`, `listener`, and `group` if the
    listener has one; for both `trace_id`, if there is a trace context.
    """
    fields = _fields.get()
    if fields is None:
        return {}
    trace_id = trace_id_of(trace_of_execution.get())
    return {**fields, "trace_id": trace_id} if trace_id else dict(fields)


def add_log_fields(logger: Any, method_name: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the missing fields to a record of structlog, `event` as `event_name`: structlog's `event` is the message."""
    for name, value in log_fields().items():
        event_dict.setdefault("event_name" if name == "event" else name, value)
    return event_dict


class GroupNames:
    """The groups of listeners by API and listener name, cached: hooks get only the name."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def of(self, client: Any, api: str, name: str) -> str:
        """Return the group of a listener; empty if each process gets every event."""
        group = self._known.get((api, name))
        if group is None:
            found = (each for each in client.listeners if (each.api, each.name) == (api, name))
            group = self._known[api, name] = next((each.group_of(client.service_name) for each in found), "")
        return group


class LogContextPlugin(LightbusPlugin):
    """Sets the log fields of the call or event being handled. Tasks that outlive the handler keep them."""

    priority = 10

    def __init__(self) -> None:
        self._groups = GroupNames()

    def around_rpc_execution(self, *, rpc_message: RpcMessage, client: Any) -> None:
        """Set the fields of the call."""
        _fields.set(
            {"api": rpc_message.api_name, "procedure": rpc_message.procedure_name, "call_id": str(rpc_message.id)}
        )

    def around_event_execution(self, *, event_message: EventMessage, listener_name: str, client: Any) -> None:
        """Set the fields of the event and its listener."""
        fields = {
            "api": event_message.api_name,
            "event": event_message.event_name,
            "event_id": event_message.id,
            "listener": listener_name,
        }
        if group := self._groups.of(client, event_message.api_name, listener_name):
            fields["group"] = group
        _fields.set(fields)

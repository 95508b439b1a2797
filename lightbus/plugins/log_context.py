"""The plugin `log_context`: while a call is served or an event handled, log records can say which one it is.

`JsonFormatter` (`lightbus.json_logs`) writes what is known into each record, and `add_log_fields` is a processor of
structlog that does the same.
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
    Return what is known of the call or event that this code handles; empty where it handles none.

    Of a call `api`, `procedure` and `call_id`; of an event `api`, `event`, `event_id`, `listener`, and `group` where it
    has one; and `trace_id`, where either came with a trace context.
    """
    fields = _fields.get()
    if fields is None:
        return {}
    trace_id = trace_id_of(trace_of_execution.get())
    return {**fields, "trace_id": trace_id} if trace_id else dict(fields)


def add_log_fields(logger: Any, method_name: str, event_dict: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Add the fields to a record of structlog, but for those that it has; structlog's own `event` is the message."""
    for name, value in log_fields().items():
        event_dict.setdefault("event_name" if name == "event" else name, value)
    return event_dict


class GroupNames:
    """The groups of listeners, which hooks know by API and name. A client's listeners are looked at once for each."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str], str] = {}

    def of(self, client: Any, api: str, name: str) -> str:
        """Return the group; empty where each process is given everything."""
        group = self._known.get((api, name))
        if group is None:
            found = (each for each in client.listeners if (each.api, each.name) == (api, name))
            group = self._known[api, name] = next((each.group_of(client.service_name) for each in found), "")
        return group


class LogContextPlugin(LightbusPlugin):
    """Notes for the logs which call or event is handled. What a handler leaves behind goes on to say so."""

    priority = 10

    def __init__(self) -> None:
        self._groups = GroupNames()

    def around_rpc_execution(self, *, rpc_message: RpcMessage, client: Any) -> None:
        """Note the call."""
        _fields.set(
            {"api": rpc_message.api_name, "procedure": rpc_message.procedure_name, "call_id": str(rpc_message.id)}
        )

    def around_event_execution(self, *, event_message: EventMessage, listener_name: str, client: Any) -> None:
        """Note the event, and whose it is."""
        fields = {
            "api": event_message.api_name,
            "event": event_message.event_name,
            "event_id": event_message.id,
            "listener": listener_name,
        }
        if group := self._groups.of(client, event_message.api_name, listener_name):
            fields["group"] = group
        _fields.set(fields)

"""Type aliases that several floors share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["BusOptions", "Endpoint", "InstanceId", "JsonSchema", "Kwargs"]

Kwargs: TypeAlias = dict[str, Any]
"""Arguments of a call or an event by name: there are no positional ones on the bus."""

BusOptions: TypeAlias = Mapping[str, Any]
"""The value of `bus_options=`: `timeout` (seconds), and for listeners `since`."""

Endpoint: TypeAlias = str
"""The address of a socket, to show and to compare. Only the transport that made it parses it (`ports.transport`)."""

InstanceId: TypeAlias = str
"""16 hexadecimal digits, new at each start of a process: a restarted process is never taken for its predecessor."""

JsonSchema: TypeAlias = dict[str, Any]
"""A JSON Schema, draft 2020-12."""

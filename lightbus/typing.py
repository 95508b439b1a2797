"""Type aliases that several floors share. Nothing here does anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

__all__ = ["BusOptions", "Endpoint", "InstanceId", "JsonSchema", "Kwargs"]

Kwargs: TypeAlias = dict[str, Any]
"""Arguments of a call or an event by name: there are no positional ones on the bus."""

BusOptions: TypeAlias = Mapping[str, Any]
"""What `bus_options=` takes: `timeout` (seconds), and for listeners `since`."""

Endpoint: TypeAlias = str
"""Where a socket is: a text to show and to compare. Only the transport that made it reads it (`ports.transport`)."""

InstanceId: TypeAlias = str
"""16 hexadecimal digits, new at each start of a process: a restart is never mistaken for its ghost."""

JsonSchema: TypeAlias = dict[str, Any]
"""A JSON Schema, draft 2020-12."""

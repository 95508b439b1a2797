"""The files of `lightbus record` and `lightbus replay`: events as JSON, one object a line.

The first line identifies the format. JSON lacks some types of the bus (times, bytes, Decimals): an event with such
values has its arguments in `packed`, in the encoding of the bus, beside the readable `kwargs`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...exceptions import ProtocolError, UnsupportedUse
from ...message import EventMessage
from ...wire.codec import decode, encode
from ...wire.plain import json_form
from .output import json_line

__all__ = ["FORMAT", "RecordedEvent", "Recording", "heading", "line_of"]

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedEvent:
    """
    An event of a file.

    Attributes:
        line: the number of its line in the file.
        api, event: its name.
        published_at: when it was fired, in seconds since 1970.
        kwargs: its arguments, with their original types.

    """

    line: int
    api: str
    event: str
    published_at: float
    kwargs: dict[str, Any]

    @property
    def name(self) -> str:
        """The full name of the event."""
        return f"{self.api}.{self.event}"


def heading(bus: str) -> str:
    """Return the first line of a file with events of a bus."""
    return json.dumps({"lightbus_events": FORMAT, "bus": bus}) + "\n"


def line_of(message: EventMessage) -> str:
    """Return the line of an event."""
    plain = json_form(message.kwargs, finite=True)
    fields: dict[str, Any] = {
        "api": message.api_name,
        "event": message.event_name,
        "version": message.version,
        "id": message.id,
        "published_at": message.published_at,
        "kwargs": plain,
    }
    packed = encode(message.kwargs)
    if packed != encode(plain):
        fields["packed"] = base64.b64encode(packed).decode()
    return json_line(fields) + "\n"


class Recording:
    """
    The events of a file. Each iteration reads the file again, line by line: it may be large.

    Raises UnsupportedUse, also during an iteration, for an invalid file; the message names the line.

    Attributes:
        bus: the name of the bus on which they were recorded.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as file:
            first = _object(file.readline(), path, 1)
        if first.get("lightbus_events") != FORMAT:
            raise UnsupportedUse(
                f"{path} holds no events that this version reads. `lightbus record --out` writes such files."
            )
        self.bus = str(first.get("bus", ""))

    def __iter__(self) -> Iterator[RecordedEvent]:
        with self._open() as file:
            for number, text in enumerate(file, start=1):
                if not text.endswith("\n"):  # an incomplete last line: its writer was killed, or is still writing
                    return
                if number > 1 and text.strip():
                    yield _event(_object(text, self._path, number), self._path, number)

    def _open(self) -> IO[str]:
        try:
            return self._path.open(encoding="utf-8", errors="replace")  # invalid UTF-8 is no valid JSON object either
        except OSError as error:
            raise UnsupportedUse(
                f"{self._path} cannot be read: {error.strerror}. `lightbus record --out` writes such files."
            ) from None


def _event(fields: Mapping[str, Any], path: Path, number: int) -> RecordedEvent:
    api, event, at, plain = (fields.get(name) for name in ("api", "event", "published_at", "kwargs"))
    is_event = isinstance(api, str) and isinstance(event, str) and isinstance(plain, dict)
    if not is_event or isinstance(at, bool) or not isinstance(at, (int, float)):
        raise UnsupportedUse(f"Line {number} of {path} is no event: it needs api, event, published_at and kwargs.")
    kwargs: Any = plain
    if isinstance(packed := fields.get("packed"), str):
        try:
            kwargs = decode(base64.b64decode(packed, validate=True))
        except (ValueError, ProtocolError):
            kwargs = None
        if not isinstance(kwargs, dict) or json_form(kwargs, finite=True) != plain:
            raise UnsupportedUse(
                f"Line {number} of {path} was changed: kwargs are not those in packed. Remove packed from the line, "
                "and kwargs count, as JSON has them."
            )
    return RecordedEvent(line=number, api=str(api), event=str(event), published_at=float(at), kwargs=kwargs)


def _object(text: str, path: Path, number: int) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UnsupportedUse(
            f"Line {number} of {path} is not a JSON object. `lightbus record --out` writes such files."
        )
    return found

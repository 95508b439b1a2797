"""Log records as JSON, one object a line: for programs that collect the logs of many processes."""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

from .phrases import safely
from .plugins.log_context import log_fields

__all__ = ["JsonFormatter"]

_OWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "color_message"}
"""The attributes of every record: all others were given as `extra`."""


class JsonFormatter(logging.Formatter):
    """
    Writes `timestamp`, `level`, `logger`, `message`, and the context of the record.

    The context is the process (`service`, `process`, `pid`), the call or event being handled (see
    `lightbus.plugins.log_context`), the application's `extra` values, and the `exception` with its traceback.

    Args:
        fields: fields to add to each line, as `service` and `process`.

    """

    def __init__(self, **fields: str) -> None:
        super().__init__()
        self.fields = {name: value for name, value in fields.items() if value}

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        line: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.fields,
            "pid": record.process or os.getpid(),
            **log_fields(),
        }
        for name, value in vars(record).items():
            if name not in _OWN and name not in line:
                line[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = self.formatStack(record.stack_info)
        try:
            return json.dumps(line, ensure_ascii=False, default=_text)
        except (TypeError, ValueError):  # a key that is not a string, or a reference cycle
            return json.dumps({name: _plain(value) for name, value in line.items()}, ensure_ascii=False)


def _text(value: Any) -> str:
    return safely(str, value)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else _text(value)

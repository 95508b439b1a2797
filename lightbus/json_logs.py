"""Log records as JSON, one object a line: for whatever gathers the logs of many processes."""

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
"""What every record has: the rest was given as `extra`."""


class JsonFormatter(logging.Formatter):
    """
    Writes `timestamp`, `level`, `logger`, `message`, and what is known besides.

    That is which process it is (`service`, `process`, `pid`), which call or event it was about (see
    `lightbus.plugins.log_context`), what the application gave as `extra`, and the `exception` with its traceback.

    Args:
        fields: what each line says, too, as `service` and `process`.

    """

    def __init__(self, **fields: str) -> None:
        super().__init__()
        self.fields = {name: value for name, value in fields.items() if value}

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        told: dict[str, Any] = {
            "timestamp": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **self.fields,
            "pid": record.process or os.getpid(),
            **log_fields(),
        }
        for name, value in vars(record).items():
            if name not in _OWN and name not in told:
                told[name] = value
        if record.exc_info and record.exc_info[0] is not None:
            told["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            told["stack"] = self.formatStack(record.stack_info)
        try:
            return json.dumps(told, ensure_ascii=False, default=_text)
        except (TypeError, ValueError):  # keys that are no texts, a circle
            return json.dumps({name: _plain(value) for name, value in told.items()}, ensure_ascii=False)


def _text(value: Any) -> str:
    return safely(str, value)


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (str, int, float)) else _text(value)

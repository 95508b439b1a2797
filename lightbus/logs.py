"""Logging to the terminal, for programs that have not set logging up themselves."""

from __future__ import annotations

import contextlib
import logging
import sys
from typing import Any, TextIO

from .phrases import clean

__all__ = ["TerminalFormatter", "TerminalHandler", "configure_logging"]

FORMAT = "%(asctime)s %(levelname)-7s %(name)s: %(message)s"


class TerminalFormatter(logging.Formatter):
    """
    Writes a record as a line of text, and an exception's traceback below it.

    Both may contain text from an untrusted peer, so control characters are escaped: none may move the cursor, or start
    a line that looks like a log line of this process.
    """

    def __init__(self) -> None:
        super().__init__(FORMAT)

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the line."""
        record.message = clean(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:
        """Return the traceback; its line breaks are kept."""
        return "\n".join(map(clean, super().formatException(ei).split("\n")))


class TerminalHandler(logging.StreamHandler[TextIO]):
    """Writes to the current `sys.stderr`; drops records where it is closed or has no reader."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)
        self.setFormatter(TerminalFormatter())

    @property
    def stream(self) -> Any:  # type: ignore[override]
        """Standard error as it is now; None where the process has none."""
        return sys.stderr

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        if self.stream is not None:
            super().emit(record)

    def flush(self) -> None:
        """Flush standard error."""
        with contextlib.suppress(OSError, ValueError):  # ValueError: the stream was closed
            super().flush()

    def handleError(self, record: logging.LogRecord) -> None:
        """Report a record that cannot be formatted; if the stream is gone, drop it."""
        if not isinstance(sys.exc_info()[1], OSError | ValueError) or not _is_gone(self.stream):
            super().handleError(record)


def _is_gone(stream: Any) -> bool:
    if getattr(stream, "closed", False):  # not every closed stream raises when it is flushed
        return True
    try:
        stream.flush()
    except (OSError, ValueError):
        return True
    return False


def configure_logging(log_level: str | int = "info") -> TerminalHandler:
    """
    Log to the terminal as plain text, and return the handler: for programs that have not set logging up.

    A second call replaces the handler of the first; handlers that the program added to the logger `lightbus` stay.
    """
    level = logging.getLevelName(log_level.upper()) if isinstance(log_level, str) else log_level
    root = logging.getLogger("lightbus")
    for old in root.handlers[:]:
        if isinstance(old, TerminalHandler):
            root.removeHandler(old)
    handler = TerminalHandler()
    root.addHandler(handler)
    root.setLevel(level)
    root.propagate = False
    return handler

"""
The logging of `lightbus run`: the application's own setup is kept; without one, all records are shown.

An application sets up logging before or while its bus module is imported. The result is inspected afterwards.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from ...logs import TerminalHandler, configure_logging

if TYPE_CHECKING:
    from ...client import BusClient

__all__ = ["ApplicationLogging", "end_in_json", "is_json", "log_as_supervisor", "writes_json"]

logger = logging.getLogger("lightbus.cli")


def is_json(log_format: str) -> bool:
    """Return whether to log JSON; `auto`: if standard error is not a terminal."""
    if log_format != "auto":
        return log_format == "json"
    return sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty()


class _OwnLevel(int):
    """A level set by this module: a distinct object, to recognise it."""


class ApplicationLogging:
    """
    Sets up logging around the import of a bus module.

    While the module is imported, records from INFO on are shown unless a handler of the application takes them. The
    application's own setup is never changed.

    Args:
        log_format: `json`, `text` or `auto`.
        is_configured: whether --log-config has set up logging: then nothing is added.

    """

    def __init__(self, log_format: str = "text", *, is_configured: bool = False) -> None:
        self._format = log_format
        self._is_configured = is_configured
        self._root = logging.getLogger()
        self._level = _OwnLevel(logging.INFO)
        self._has_chosen = False
        """Whether the application has set the level of the root logger."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Watch the body, which imports the bus module, for changes of the logging setup."""
        last_resort, before = logging.lastResort, self._root.level
        is_untouched = not self._root.handlers and before == logging.WARNING
        if is_untouched:
            self._root.setLevel(self._level)
        logging.lastResort = self._handler()
        try:
            yield
        finally:
            logging.lastResort = last_resort
            if self._root.level is self._level:
                self._root.setLevel(before)
            else:
                self._has_chosen = is_untouched or self._root.level != logging.WARNING

    def finish(self, client: BusClient, *, log_level: str | None) -> None:
        """
        Show records that no other handler takes, at the level of the settings.

        Args:
            client: its setting `bus.log_level` applies if the application has set no level for `lightbus`; JSON records
                have its service and process.
            log_level: the level from the command line, which overrides the application's.

        """
        config, ours = client.config, logging.getLogger("lightbus")
        level = logging.getLevelName(config.bus.log_level.upper())
        is_set = self._is_configured or ours.level != logging.NOTSET
        if log_level is not None or not (is_set or (self._has_chosen and not _is_written(client))):
            ours.setLevel(level)
        if self._is_configured:
            return
        if not self._root.handlers:
            if not self._has_chosen:
                self._root.setLevel(level)
            handler = self._handler(client)
            handler.addFilter(_is_unhandled)
            self._root.addHandler(handler)
        elif self._format != "text":
            logger.warning(
                "--log-format %s has no effect: the module sets up logging itself, and that is not changed. Give its "
                "handlers the formatter lightbus.json_logs.JsonFormatter.",
                self._format,
            )

    def _handler(self, client: BusClient | None = None) -> TerminalHandler:
        handler = TerminalHandler()
        if is_json(self._format):
            from ...json_logs import JsonFormatter

            who = {} if client is None else {"service": client.service_name, "process": client.process_name}
            handler.setFormatter(JsonFormatter(**who))
        return handler


def end_in_json(error: Exception, exit_code: int) -> NoReturn:
    """End the process with an error, written as a JSON log line."""
    from ...json_logs import JsonFormatter

    handler = TerminalHandler()
    handler.setFormatter(JsonFormatter())
    handler.handle(logger.makeRecord(logger.name, logging.CRITICAL, __file__, 0, "%s", (error,), None))
    raise SystemExit(exit_code) from None


def log_as_supervisor(log_format: str, log_level: str | None, *, is_configured: bool) -> None:
    """
    Set up the logging of the supervisor, in the format of its workers.

    Args:
        log_format: `json`, `text` or `auto`.
        log_level: the level from the command line.
        is_configured: whether --log-config has set up logging: then nothing is added.

    """
    if is_configured:
        if log_level is not None:
            logging.getLogger("lightbus").setLevel(log_level.upper())
        return
    handler = configure_logging(log_level or "info")
    if is_json(log_format):
        from ...json_logs import JsonFormatter

        handler.setFormatter(JsonFormatter(process="supervisor"))


def writes_json() -> bool:
    """Return whether any handler of this process uses JsonFormatter, so that log fields are needed."""
    if "lightbus.json_logs" not in sys.modules:
        return False
    from ...json_logs import JsonFormatter

    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in list(logging.Logger.manager.loggerDict))]
    return any(isinstance(handler.formatter, JsonFormatter) for each in loggers for handler in each.handlers)


def _is_written(client: BusClient) -> bool:
    return "log_level" in client.config.bus.model_fields_set


def _is_unhandled(record: logging.LogRecord) -> bool:
    """Return whether no logger below the root has a handler for a record, as an application may set up."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return False
        logger = logger.parent
    return True

"""
What `lightbus run` logs: what the application has set up stays as it is; where it set up nothing, all is shown.

An application sets logging up before its bus module is imported, or in it. What that did is looked at afterwards.
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
    """Return whether records are to be JSON: `auto` means where nobody reads them at a terminal."""
    if log_format != "auto":
        return log_format == "json"
    return sys.stderr is None or sys.stderr.closed or not sys.stderr.isatty()


class _OwnLevel(int):
    """A level that we have set: another object than any that an application sets."""


class ApplicationLogging:
    """
    How logging is set up around the import of a bus module.

    While the module is imported everything from INFO on is shown that no handler of the application's takes. What the
    application has set up by then stays as it is, to the letter.

    Args:
        log_format: `json`, or as people read it.
        is_configured: whether a file has set logging up: then nothing is added to that.

    """

    def __init__(self, log_format: str = "text", *, is_configured: bool = False) -> None:
        self._format = log_format
        self._is_configured = is_configured
        self._root = logging.getLogger()
        self._level = _OwnLevel(logging.INFO)
        self._has_chosen = False
        """Whether the application has chosen a level for everything."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Import the bus module inside: what it sets up is told from what was there."""
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
            client: in its settings `bus.log_level` counts where the application has chosen no level for `lightbus`.
                Records of JSON say its service and process.
            log_level: the level that the command line names. It counts whatever the application has chosen.

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
                "--log-format %s has no say: the module sets logging up itself, and that stays as it is. Give its "
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
    """End the process with an error that is a line of its log, where that is JSON."""
    from ...json_logs import JsonFormatter

    handler = TerminalHandler()
    handler.setFormatter(JsonFormatter())
    handler.handle(logger.makeRecord(logger.name, logging.CRITICAL, __file__, 0, "%s", (error,), None))
    raise SystemExit(exit_code) from None


def log_as_supervisor(log_format: str, log_level: str | None, *, is_configured: bool) -> None:
    """
    Log what the supervisor of several workers does, in the form in which they log.

    Args:
        log_format: `json`, or as people read it.
        log_level: the level that the command line names.
        is_configured: whether a file has set logging up: then nothing is added to that.

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
    """Return whether any handler of this process writes JSON of ours, so that the fields are worth their cost."""
    if "lightbus.json_logs" not in sys.modules:
        return False
    from ...json_logs import JsonFormatter

    loggers = [logging.getLogger(), *(logging.getLogger(name) for name in list(logging.Logger.manager.loggerDict))]
    return any(isinstance(handler.formatter, JsonFormatter) for each in loggers for handler in each.handlers)


def _is_written(client: BusClient) -> bool:
    return "log_level" in client.config.bus.model_fields_set


def _is_unhandled(record: logging.LogRecord) -> bool:
    """Return whether no logger below the root has a handler for a record: that would be the application's choice."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return False
        logger = logger.parent
    return True

"""
What `lightbus run` logs: what the application has set up stays as it is; where it set up nothing, all is shown.

An application sets logging up before its bus module is imported, or in it. What that did is looked at afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from ...logs import TerminalHandler

if TYPE_CHECKING:
    from ...config import Config

__all__ = ["ApplicationLogging"]


class _Ours(int):
    """A level that we have set: another object than any that an application sets."""


class ApplicationLogging:
    """
    How logging is set up around the import of a bus module.

    While the module is imported everything from INFO on is shown that no handler of the application's takes. What the
    application has set up by then stays as it is, to the letter.
    """

    def __init__(self) -> None:
        self._root = logging.getLogger()
        self._level = _Ours(logging.INFO)
        self._has_chosen = False
        """Whether the application has chosen a level for everything."""

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Import the bus module inside: what it sets up is told from what was there."""
        last_resort, before = logging.lastResort, self._root.level
        is_untouched = not self._root.handlers and before == logging.WARNING
        if is_untouched:
            self._root.setLevel(self._level)
        logging.lastResort = TerminalHandler()
        try:
            yield
        finally:
            logging.lastResort = last_resort
            if self._root.level is self._level:
                self._root.setLevel(before)
            else:
                self._has_chosen = is_untouched or self._root.level != logging.WARNING

    def finish(self, config: Config, *, log_level: str | None) -> None:
        """
        Show what nobody else takes, at the level of the settings.

        Args:
            config: the settings; `bus.log_level` counts where the application has chosen no level for `lightbus`.
            log_level: the level that the command line names. It counts whatever the application has chosen.

        """
        ours = logging.getLogger("lightbus")
        level = logging.getLevelName(config.bus.log_level.upper())
        is_set = ours.level != logging.NOTSET
        if log_level is not None or not (is_set or (self._has_chosen and not _is_written(config))):
            ours.setLevel(level)
        if not self._root.handlers:
            if not self._has_chosen:
                self._root.setLevel(level)
            handler = TerminalHandler()
            handler.addFilter(_is_taken_by_nobody)
            self._root.addHandler(handler)


def _is_written(config: Config) -> bool:
    return "log_level" in config.bus.model_fields_set


def _is_taken_by_nobody(record: logging.LogRecord) -> bool:
    """Return whether no logger below the root has a handler for a record: that would be the application's choice."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        if any(not isinstance(handler, logging.NullHandler) for handler in logger.handlers):
            return False
        logger = logger.parent
    return True

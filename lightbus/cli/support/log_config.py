"""`lightbus run --log-config FILE`: set up logging by `logging.config.dictConfig` from YAML, JSON or TOML."""

from __future__ import annotations

import logging.config

from ...config.sources import read_settings
from ...exceptions import InvalidConfiguration

__all__ = ["set_up_logging"]


def set_up_logging(file: str) -> None:
    """
    Set up logging from a file. By default loggers that it does not name are unchanged.

    Raises InvalidConfiguration for a file that cannot be read, or that dictConfig refuses.
    """
    settings = {"version": 1, "disable_existing_loggers": False, **read_settings(file, named_by="--log-config")}
    try:
        logging.config.dictConfig(settings)
    except (ValueError, TypeError, AttributeError, ImportError) as error:
        cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
        raise InvalidConfiguration(
            f"--log-config {file}: {error}{cause}. It has to hold what Python's logging.config.dictConfig takes: "
            "handlers, formatters, loggers, root."
        ) from error

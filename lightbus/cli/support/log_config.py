"""`lightbus run --log-config FILE`: logging as `logging.config.dictConfig` sets it up, from YAML, JSON or TOML."""

from __future__ import annotations

import logging.config

from ...config.sources import read_settings
from ...exceptions import InvalidConfiguration

__all__ = ["set_up_logging"]


def set_up_logging(file: str) -> None:
    """
    Set logging up as a file says. Loggers that it does not name stay as they are, unless it says otherwise.

    Raises InvalidConfiguration for what cannot be read, and for what dictConfig refuses.
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

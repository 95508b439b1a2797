"""The environment variables that set settings, and a warning about variables with their prefix that do not."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping

from ..exceptions import did_you_mean

__all__ = ["ENVIRONMENT", "OTHER_VARIABLES", "warn_of_unknown"]

logger = logging.getLogger("lightbus.config")

ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "LIGHTBUS_SERVICE_NAME": ("service_name",),
    "LIGHTBUS_PROCESS_NAME": ("process_name",),
    "LIGHTBUS_FEATURES": ("features",),
    "LIGHTBUS_BUS": ("bus", "name"),
    "LIGHTBUS_LOG_LEVEL": ("bus", "log_level"),
    "LIGHTBUS_INTERFACES": ("network", "interfaces"),
    "LIGHTBUS_PEERS": ("discovery", "peers"),
    "LIGHTBUS_SECURITY": ("security", "mode"),
    "LIGHTBUS_BUS_KEY": ("security", "bus_key"),
    "LIGHTBUS_BUS_KEY_FILE": ("security", "bus_key_file"),
    "LIGHTBUS_DATA_DIR": ("journal", "data_dir"),
}
"""Environment variable -> the setting it sets. An empty variable is not set."""

OTHER_VARIABLES = frozenset(
    {
        "LIGHTBUS_CONFIG",
        "LIGHTBUS_MODULE",
        "LIGHTBUS_CONTEXT",
        "LIGHTBUS_NATS_SERVERS",
        "LIGHTBUS_NATS_USER",
        "LIGHTBUS_NATS_PASSWORD",
        "LIGHTBUS_NATS_CREDENTIALS",
        "LIGHTBUS_NATS_TLS_CA",
    }
)
"""Variables that are read elsewhere."""

PREFIX = "LIGHTBUS_"

_FOREIGN = re.compile(
    rf"{PREFIX}(TEST_.*"  # of our own tests
    # Kubernetes sets these for a service that is called lightbus, or lightbus-something, as Docker's links did.
    r"|(.*_)?SERVICE_(HOST|PORT(_.*)?)|(.*_)?PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)

_warned: set[str] = set()
"""The warnings that this process has logged: settings are loaded more than once."""


def warn_of_unknown(environ: Mapping[str, str]) -> None:
    """Log, once in a process, each variable with our prefix that is not a setting: it has no effect."""
    for variable in _unknown(environ):
        if variable not in _warned:
            _warned.add(variable)
            near = did_you_mean(variable, [*ENVIRONMENT, *OTHER_VARIABLES])
            logger.warning("%s in the environment is not a setting, and does nothing.%s", variable, near)


def _unknown(environ: Mapping[str, str]) -> Iterator[str]:
    for variable in sorted(environ):
        if (
            variable.startswith(PREFIX)
            and variable not in ENVIRONMENT
            and variable not in OTHER_VARIABLES
            and environ[variable].strip()
            and not _FOREIGN.fullmatch(variable)
        ):
            yield variable

"""The options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["ENVIRONMENT", "bus_options", "take_over"]

F = TypeVar("F", bound=Callable[..., Any])

ENVIRONMENT = """\b
Environment (each has a key in the configuration file, too):
  LIGHTBUS_MODULE        the bus module; --bus
  LIGHTBUS_CONFIG        the configuration file; --config
  LIGHTBUS_SERVICE_NAME  service_name; --service-name
  LIGHTBUS_PROCESS_NAME  process_name; --process-name
  LIGHTBUS_FEATURES      features: rpcs,events,tasks; --only
  LIGHTBUS_LOG_LEVEL     bus.log_level; --log-level
  LIGHTBUS_BUS           bus.name: buses of different names do not see each other
  LIGHTBUS_SECURITY      security.mode: bus_key (default where there is a key), host (else) or insecure
  LIGHTBUS_BUS_KEY       security.bus_key: the key itself, instead of the file of `lightbus keys init`
  LIGHTBUS_BUS_KEY_FILE  security.bus_key_file: where that file is
  LIGHTBUS_INTERFACES    network.interfaces: names or addresses, with commas
  LIGHTBUS_PEERS         discovery.peers: host:port of fixed peers, with commas
"""


def bus_options(function: F) -> F:
    """Add --bus, --service-name, --process-name, --config and --log-level."""
    for option in reversed(
        [
            click.option("--bus", "-b", "module", metavar="MODULE", help="The bus module. [default: bus]"),
            click.option("--service-name", "-s", metavar="NAME", help="What this service is called."),
            click.option("--process-name", "-p", metavar="NAME", help="What this process is called."),
            click.option("--config", "config_file", metavar="FILE", help="Configuration: a path or an https URL."),
            click.option(
                "--log-level",
                type=click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False),
                help="What is logged. [default: info]",
            ),
        ]
    ):
        function = option(function)
    return function


def take_over(
    *, service_name: str | None, process_name: str | None, config_file: str | None, log_level: str | None
) -> None:
    """Let the options win over the arguments of `create()` in the module that is imported next."""
    from .. import creation

    if config_file is not None:
        creation.overriding_file.append(config_file)
    creation.overrides.update(
        {"service_name": service_name, "process_name": process_name, "bus": {"log_level": log_level}}
    )

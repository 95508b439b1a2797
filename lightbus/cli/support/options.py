"""The options that several commands share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import click

from .contexts import complete_contexts
from .output import FORMS

__all__ = [
    "ENVIRONMENT",
    "ClientOptions",
    "apply_options",
    "bus_options",
    "client_options",
    "client_options_beside_out",
]

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
  LIGHTBUS_DATA_DIR      journal.data_dir: where events are stored
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientOptions:
    """The common options of commands that are clients of the bus (`connection.on_bus`)."""

    config_file: str | None = None
    bus_name: str | None = None
    wait: float = 2.0
    as_json: bool = False
    log_level: str | None = None
    context: str | None = None
    output_form: str | None = None
    """The output format for programs, one of `FORMS`, or None."""

    def over(self, group: ClientOptions) -> ClientOptions:
        """Return these options, completed by those given before the subcommand's name (`group`)."""
        default = ClientOptions()
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        unset = {name for name, value in fields.items() if value == getattr(default, name)}
        return replace(self, **{name: getattr(group, name) for name in unset})


def client_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add --json, -o, --wait, --context, --bus-name, --config, --log-level; the command gets one ClientOptions."""
    return _with_client_options(function, "--output", "-o")


def client_options_beside_out(function: Callable[..., None]) -> Callable[..., None]:
    """Add the options of `client_options`, without `-o`, to a command that has its own `-o`."""
    return _with_client_options(function, "--output")


def _with_client_options(function: Callable[..., None], *output: str) -> Callable[..., None]:
    @functools.wraps(function)
    def command(**given: Any) -> None:
        own = {name: given.pop(name) for name in ClientOptions.__dataclass_fields__}
        own["as_json"] = own["as_json"] or own["output_form"] is not None
        function(ClientOptions(**own), **given)

    for option in reversed(
        [
            click.option("--json", "as_json", is_flag=True, help="Show JSON, one object a line (docs/cli.md)."),
            click.option(*output, "output_form", type=click.Choice(FORMS), help="Show the same in another form."),
            click.option(
                "--wait",
                type=click.FloatRange(0.0, 3600.0),
                default=2.0,
                show_default=True,
                metavar="SECONDS",
                help="How long to look for peers at most.",
            ),
            click.option(
                "--context",
                metavar="NAME",
                shell_complete=complete_contexts,
                help="A bus as `lightbus context` names it.",
            ),
            click.option("--bus-name", metavar="NAME", help="The bus. [default: LIGHTBUS_BUS, or your own]"),
            *_common_options("warning"),
        ]
    ):
        command = option(command)
    return command


def _common_options(log_level: str) -> list[Callable[[Any], Any]]:
    levels = click.Choice(["debug", "info", "warning", "error", "critical"], case_sensitive=False)
    return [
        click.option("--config", "config_file", metavar="FILE", help="Configuration: a path or an https URL."),
        click.option("--log-level", type=levels, help=f"What is logged. [default: {log_level}]"),
    ]


def bus_options(function: F) -> F:
    """Add --bus, --service-name, --process-name, --config and --log-level."""
    for option in reversed(
        [
            click.option("--bus", "-b", "module", metavar="MODULE", help="The bus module. [default: bus]"),
            click.option("--service-name", "-s", metavar="NAME", help="What this service is called."),
            click.option("--process-name", "-p", metavar="NAME", help="What this process is called."),
            *_common_options("info"),
        ]
    ):
        function = option(function)
    return function


def apply_options(
    *, service_name: str | None, process_name: str | None, config_file: str | None, log_level: str | None
) -> None:
    """Make the options override the arguments of `create()` in the module that is imported next."""
    from ... import creation

    if config_file is not None:
        creation.overriding_file.append(config_file)
    creation.overrides.update(
        {"service_name": service_name, "process_name": process_name, "bus": {"log_level": log_level}}
    )

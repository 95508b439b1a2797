"""`lightbus run`: serve the APIs and listeners of a bus module until told to stop."""

from __future__ import annotations

import logging
import traceback
from dataclasses import dataclass
from typing import Any

import click

from ...adapters.host.descriptors import raise_descriptor_limit
from ...client import BusClient
from ...config.features import ALL_FEATURES, Feature
from ..support.first_process import continue_in_child
from ..support.log_config import set_up_logging
from ..support.logs import ApplicationLogging, end_in_json, is_json, log_as_supervisor
from ..support.options import ENVIRONMENT, apply_options, bus_options
from ..support.run_as import RunAs
from ..support.supervised import supervisor_pipe

__all__ = ["run"]

logger = logging.getLogger("lightbus.cli")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """The options from the command line."""

    module: str | None
    service_name: str | None
    process_name: str | None
    config_file: str | None
    log_level: str | None
    only: str | None
    skip: str | None
    metrics: str | None
    health: str | None
    log_format: str | None
    log_config: str | None
    workers: int
    schema: str | None
    reload: bool
    reload_dirs: tuple[str, ...]

    def command(self, number: int = 0) -> list[str]:
        """Return the command that runs a worker; each of several workers gets its own name and ports."""
        given = {
            "--bus": self.module,
            "--service-name": self.service_name,
            "--process-name": self.process_name
            if not number
            else self.process_name and f"{self.process_name}-{number}",
            "--config": self.config_file,
            "--log-level": self.log_level,
            "--only": self.only,
            "--skip": self.skip,
            "--metrics-port": _port_of(self.metrics, number),
            "--health-port": _port_of(self.health, number),
            "--log-format": self.log_format,
            "--log-config": self.log_config,
            "--schema": self.schema,
        }
        options = [word for option, value in given.items() if value is not None for word in (option, value)]
        return [*RunAs.current().command, *options]


def _port_of(place: str | None, number: int) -> str | None:
    """Return the address and port of worker `number`: its port is the next one after that of the worker before."""
    address, colon, port = (place or "").rpartition(":")
    return f"{address}{colon}{int(port) + number - 1}" if number and port.isdigit() and int(port) else place


def _features(text: str | None, option: str) -> list[Feature]:
    if text is None:
        return []
    names = [name.strip().lower() for name in text.split(",") if name.strip()]
    known = {feature.value: feature for feature in ALL_FEATURES}
    if not names:
        raise click.BadParameter(f"it names nothing. Choose among {', '.join(known)}.", param_hint=option)
    for name in names:
        if name not in known:
            raise click.BadParameter(f"'{name}' is none of {', '.join(known)}.", param_hint=option)
    return [known[name] for name in names]


def _chosen(only: str | None, skip: str | None) -> list[Feature]:
    """Return the chosen features; an empty list if neither option was given."""
    if only is not None and skip is not None:
        raise click.UsageError("--only and --skip say the same thing in two ways: give one of them.")
    if skip is None:
        return _features(only, "--only")
    unwanted = _features(skip, "--skip")
    left = [feature for feature in ALL_FEATURES if feature not in unwanted]
    if not left:
        raise click.BadParameter("nothing is left for the worker to do.", param_hint="--skip")
    return left


def _warn_if_idle(client: BusClient) -> None:
    """Log a warning if a worker would do nothing: mostly because an API was never registered."""
    if client.api_registry.all() or client.listeners or client.timetables:
        return
    if not client.hooks.has("on_start") and not client.hooks.has("before_worker_start"):  # may declare them
        logger.warning(
            "The module registers no API, no listener and no schedule, so there is nothing to serve. "
            "Is a line like bus.client.register_api(AuthApi()) missing?"
        )


def _serve(client: BusClient) -> int:
    from ...exceptions import InvalidConfiguration, LightbusException, TransportError
    from ...service.failures import shorten

    try:
        return client.run_forever()
    except TransportError as error:
        network = client.config.network
        fixed = [name for name in ("rpc_port", "event_port") if getattr(network, name)]
        if not fixed or client.config.security.mode == "host":  # this mode has no ports
            raise
        ports = " and ".join(f"network.{name} ({getattr(network, name)})" for name in fixed)
        raise TransportError(
            f"{error} The settings fix {ports}, so only one worker of this host can have these settings. "
            "Leave the ports out, and each worker takes free ones that the others find by themselves."
        ) from error
    except InvalidConfiguration:
        raise
    except Exception as error:  # most likely of a hook: the traceback shows which
        shorten(error)
        traceback.print_exception(error)
        if isinstance(error, LightbusException):
            raise
        return 1


@click.command(epilog=ENVIRONMENT)
@bus_options
@click.option("--only", "-o", metavar="FEATURES", help="Do only these: rpcs,events,tasks.")
@click.option("--skip", "-k", metavar="FEATURES", help="Do all but these.")
@click.option("--metrics-port", "metrics", metavar="[ADDRESS:]PORT", help="Serve metrics for Prometheus at /metrics.")
@click.option("--health-port", "health", metavar="[ADDRESS:]PORT", help="Serve /live, /ready and /metrics.")
@click.option("--log-format", type=click.Choice(["text", "json", "auto"]), help="auto: json where it is no terminal.")
@click.option("--log-config", metavar="FILE", help="Set logging up by this file (logging.config.dictConfig).")
@click.option("--workers", type=click.IntRange(1, 64), default=1, help="Run several, each restarted when it ends.")
@click.option("--reload", is_flag=True, help="Restart it when a file of the program changes: for development.")
@click.option("--reload-dir", "reload_dirs", multiple=True, metavar="DIRECTORY", help="Look there, too.")
@click.option("--schema", "-m", metavar="PATH", help="Load schemas of other services' APIs from a file or directory.")
def run(**given: Any) -> None:
    """Serve the APIs and listeners of a bus module until told to stop.

    The working directory is searched for the module first: run this where your bus.py is.

    SIGINT or SIGTERM: running calls are finished, then it ends with exit code 0. A second one ends it at once.
    """
    options = _Options(**given)
    features = _chosen(options.only, options.skip)
    if options.log_format is not None and options.log_config is not None:
        raise click.UsageError("--log-config sets the format of logs, too: leave --log-format out.")
    if options.reload and options.workers > 1:
        raise click.UsageError("--reload runs one worker, for development: leave --workers out.")
    if options.reload_dirs and not options.reload:
        raise click.UsageError("--reload-dir says where --reload looks: give that, too.")
    continue_in_child()
    before, now = raise_descriptor_limit()  # allowed: this process runs nothing but a worker
    if now != before:
        logger.debug("Raised the limit of open files (ulimit -n) from %d to %d", before, now)
    raise SystemExit(_run(options, features))


def _run(options: _Options, features: list[Feature]) -> int:
    """Run one worker, or several; return the exit code. With JSON logs an error is logged as JSON, too."""
    from ...exceptions import LightbusException

    try:
        if options.reload:
            return _run_reloading(options)
        return _run_several(options) if options.workers > 1 else _run_worker(options, features)
    except LightbusException as error:
        if is_json(options.log_format or "text"):
            end_in_json(error, error.exit_code)
        raise


def _run_several(options: _Options) -> int:
    """Run and supervise several workers; return the exit code."""
    from ..support.operating import check_places
    from ..support.supervisor import Supervisor

    check_places(metrics=options.metrics, health=options.health, workers=options.workers)
    _log_as_supervisor(options)
    return Supervisor([options.command(number) for number in range(1, options.workers + 1)]).run()


def _run_reloading(options: _Options) -> int:
    """Run a worker, and restart it when a file changes; return the exit code."""
    from ..support.reloader import Reloader

    _log_as_supervisor(options)
    return Reloader(options.command(), [".", *options.reload_dirs]).run()


def _log_as_supervisor(options: _Options) -> None:
    if options.log_config is not None:
        set_up_logging(options.log_config)
    log_as_supervisor(options.log_format or "text", options.log_level, is_configured=options.log_config is not None)


def _run_worker(options: _Options, features: list[Feature]) -> int:
    """Load the bus module and run its worker; return the exit code."""
    from ..support.bus_module import file_of, load_bus
    from ..support.operating import operate

    pipe = supervisor_pipe()
    apply_options(
        service_name=options.service_name,
        process_name=options.process_name,
        config_file=options.config_file,
        log_level=options.log_level,
    )
    if options.log_config is not None:
        set_up_logging(options.log_config)
    logs = ApplicationLogging(options.log_format or "text", is_configured=options.log_config is not None)
    with logs.watched():
        bus, loaded = load_bus(options.module)
    client = bus.client
    logs.finish(client, log_level=options.log_level)
    logger.info("Loaded the bus module '%s' from %s", loaded.__name__, file_of(loaded))
    RunAs.current().prepare(client)
    if features:
        client.set_features(features)
    if options.schema is not None:
        client.schema.load_local(options.schema)
    _warn_if_idle(client)
    operate(client, metrics=options.metrics, health=options.health, supervisor=pipe)
    return _serve(client)

"""`lightbus run`: serve the APIs and listeners of a bus module until told to stop."""

from __future__ import annotations

import logging
import traceback
from typing import TYPE_CHECKING

import click

from ...adapters.host.descriptors import raise_descriptor_limit
from ...config.features import ALL_FEATURES, Feature
from ..support.first_process import leave_to_a_child
from ..support.options import ENVIRONMENT, bus_options, take_over

if TYPE_CHECKING:
    from ...client import BusClient

__all__ = ["run"]

logger = logging.getLogger("lightbus.cli")


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
    """Return what the worker shall do; nothing where neither option was given."""
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
    """Say so where a worker would do nothing at all: an API that was written and never registered, mostly."""
    if client.api_registry.all() or client.listeners or client.timetables:
        return
    if not client.hooks.has("on_start") and not client.hooks.has("before_worker_start"):  # they may declare all that
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
        if not fixed or client.config.security.mode == "host":  # which has no ports
            raise
        ports = " and ".join(f"network.{name} ({getattr(network, name)})" for name in fixed)
        raise TransportError(
            f"{error} The settings fix {ports}, so only one worker of this host can have these settings. "
            "Leave the ports out, and each worker takes free ones that the others find by themselves."
        ) from error
    except InvalidConfiguration:
        raise
    except Exception as error:  # a hook's, most likely: the message alone does not say whose
        shorten(error)
        traceback.print_exception(error)
        if isinstance(error, LightbusException):
            raise
        return 1


@click.command(epilog=ENVIRONMENT)
@bus_options
@click.option("--only", metavar="FEATURES", help="Do only these: rpcs,events,tasks.")
@click.option("--skip", metavar="FEATURES", help="Do all but these.")
@click.option("--metrics-port", "metrics", metavar="[ADDRESS:]PORT", help="Serve metrics for Prometheus at /metrics.")
@click.option("--health-port", "health", metavar="[ADDRESS:]PORT", help="Serve /live, /ready and /metrics.")
@click.option("--schema", metavar="PATH", help="Load schemas of other services' APIs from a file or directory.")
def run(
    module: str | None,
    service_name: str | None,
    process_name: str | None,
    config_file: str | None,
    log_level: str | None,
    only: str | None,
    skip: str | None,
    metrics: str | None,
    health: str | None,
    schema: str | None,
) -> None:
    """Serve the APIs and listeners of a bus module until told to stop.

    The module is looked for in the working directory first: run this where your bus.py is.

    SIGINT or SIGTERM: running calls are finished, then it ends with exit code 0. A second one ends it at once.
    """
    features = _chosen(only, skip)
    leave_to_a_child()
    before, now = raise_descriptor_limit()  # this process is ours: what it runs is a worker
    if now != before:
        logger.debug("Raised the limit of open files (ulimit -n) from %d to %d", before, now)
    from ..support.bus_module import file_of, load_bus
    from ..support.logs import ApplicationLogging
    from ..support.operating import operate

    take_over(service_name=service_name, process_name=process_name, config_file=config_file, log_level=log_level)
    logs = ApplicationLogging()
    with logs.watched():
        bus, loaded = load_bus(module)
    client = bus.client
    logs.finish(client.config, log_level=log_level)
    logger.info("Loaded the bus module '%s' from %s", loaded.__name__, file_of(loaded))
    if features:
        client.set_features(features)
    if schema is not None:
        client.schema.load_local(schema)
    _warn_if_idle(client)
    operate(client, metrics=metrics, health=health)
    raise SystemExit(_serve(client))

"""The plugins that `lightbus run` adds for operation: metrics, health, systemd notifications, each if asked for."""

from __future__ import annotations

import os
from typing import Any

from ...client import BusClient
from ...exceptions import InvalidConfiguration
from ...plugins import LightbusPlugin, register_plugin
from .hangup import HangupPlugin
from .logs import writes_json
from .supervised import SupervisedPlugin

__all__ = ["check_places", "operate"]

METRICS, HEALTH = "--metrics-port", "--health-port"


def operate(client: BusClient, *, metrics: str | None, health: str | None, supervisor: int | None = None) -> None:
    """
    Add the plugins that the options and the environment ask for to a client, before its worker starts.

    Args:
        client: the client of the worker.
        metrics, health: where to serve them, from the command line.
        supervisor: the end of a pipe by which the worker notices that its supervisor is gone.

    Raises InvalidConfiguration for an invalid address or port, and if a package is missing.
    """
    plugins: list[LightbusPlugin] = [HangupPlugin()]
    places = _places(metrics, health)
    if HEALTH in places:
        plugins += _health(client, *places[HEALTH])
    if METRICS in places and places[METRICS] != places.get(HEALTH):
        plugins.append(_metrics(client, *places[METRICS]))
    if writes_json() and not _is_enabled(client, "log_context"):
        from ...plugins.log_context import LogContextPlugin

        plugins.append(LogContextPlugin())
    if os.environ.get("NOTIFY_SOCKET"):
        from ...plugins.systemd import SystemdPlugin

        plugins.append(SystemdPlugin())
    if supervisor is not None:
        plugins.append(SupervisedPlugin(supervisor))
    for plugin in plugins:
        register_plugin(client.hooks, plugin)


def check_places(*, metrics: str | None, health: str | None, workers: int) -> None:
    """
    Check the ports at which several workers serve metrics and health: each worker takes the next port.

    Raises InvalidConfiguration for an invalid address or port, and if two workers would get the same port.
    """
    places = _places(metrics, health)
    for option, (_, port) in places.items():
        if port + workers - 1 > 65535:
            raise InvalidConfiguration(
                f"{option} {port}: {workers} workers take that many ports in a row, and 65535 is the last."
            )
    if len(places) < 2 or places[METRICS] == places[HEALTH]:
        return
    (here, first), (there, second) = places[METRICS], places[HEALTH]
    if here == there and first and second and abs(first - second) < workers:
        raise InvalidConfiguration(
            f"{METRICS} {first} and {HEALTH} {second}: {workers} workers take {workers} ports of each in a row, so "
            f"two would have the same. Leave {workers} or more between them, or {METRICS} out: {HEALTH} serves "
            "/metrics, too."
        )


def _places(metrics: str | None, health: str | None) -> dict[str, tuple[str, int]]:
    given = {option: text for option, text in ((METRICS, metrics), (HEALTH, health)) if text}
    if not given:
        return {}  # the usual case, without importing the server: it imports Python's HTTP and e-mail modules
    from ...plugins.status_server import parse_place

    return {option: parse_place(text, option) for option, text in given.items()}


def _metrics(client: BusClient, address: str, port: int) -> Any:
    _refuse_twice(client, "prometheus", METRICS)
    from ...plugins.prometheus import PrometheusPlugin

    plugin = PrometheusPlugin(address=address, port=port)
    plugin.asked_by = METRICS
    return plugin


def _health(client: BusClient, address: str, port: int) -> list[LightbusPlugin]:
    _refuse_twice(client, "health", HEALTH)
    from ...plugins.health import HealthPlugin
    from ...plugins.status_server import Answer

    try:
        from ...plugins.prometheus import PrometheusPlugin
    except InvalidConfiguration as error:
        text = f"{error}\n".encode()
        pages, counting = {"/metrics": lambda: Answer(501, text)}, []
    else:
        prometheus = PrometheusPlugin()
        pages, counting = {"/metrics": prometheus.page}, [] if _is_enabled(client, "prometheus") else [prometheus]
    plugin = HealthPlugin(address=address, port=port, pages=pages)
    plugin.asked_by = HEALTH
    return [plugin, *counting]


def _is_enabled(client: BusClient, name: str) -> bool:
    section = client.config.plugins.get(name)
    return section is not None and section.enabled


def _refuse_twice(client: BusClient, name: str, option: str) -> None:
    if _is_enabled(client, name):
        raise InvalidConfiguration(
            f"{option} was given, and plugins.{name} is enabled in the settings, too. Leave one of the two out: "
            f"plugins.{name}.port and .address say the same."
        )

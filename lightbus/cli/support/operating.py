"""What `lightbus run` adds for whoever operates it: metrics, health, word to systemd: what is asked for."""

from __future__ import annotations

import os
from typing import Any

from ...client import BusClient
from ...exceptions import InvalidConfiguration
from ...plugins import LightbusPlugin, register_plugin
from ...plugins.status_server import Answer, parse_place
from .logs import writes_json

__all__ = ["operate"]

METRICS, HEALTH = "--metrics-port", "--health-port"


def operate(client: BusClient, *, metrics: str | None, health: str | None) -> None:
    """
    Add what the options ask for to a client whose worker starts next, and word to systemd where that wants it.

    Raises InvalidConfiguration for what is no place to serve at, and where a package is missing.
    """
    plugins: list[LightbusPlugin] = []
    places = {option: parse_place(text, option) for option, text in ((METRICS, metrics), (HEALTH, health)) if text}
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
    for plugin in plugins:
        register_plugin(client.hooks, plugin)


def _metrics(client: BusClient, address: str, port: int) -> Any:
    _refuse_twice(client, "prometheus", METRICS)
    from ...plugins.prometheus import PrometheusPlugin

    return PrometheusPlugin(address=address, port=port)


def _health(client: BusClient, address: str, port: int) -> list[LightbusPlugin]:
    _refuse_twice(client, "health", HEALTH)
    from ...plugins.health import HealthPlugin

    try:
        from ...plugins.prometheus import PrometheusPlugin
    except InvalidConfiguration as error:
        text = f"{error}\n".encode()
        return [HealthPlugin(address=address, port=port, pages={"/metrics": lambda: Answer(501, text)})]
    prometheus = PrometheusPlugin()
    counting = [] if _is_enabled(client, "prometheus") else [prometheus]
    return [HealthPlugin(address=address, port=port, pages={"/metrics": prometheus.page}), *counting]


def _is_enabled(client: BusClient, name: str) -> bool:
    section = client.config.plugins.get(name)
    return section is not None and section.enabled


def _refuse_twice(client: BusClient, name: str, option: str) -> None:
    if _is_enabled(client, name):
        raise InvalidConfiguration(
            f"{option} was given, and plugins.{name} is enabled in the settings, too. Leave one of the two out: "
            f"plugins.{name}.port and .address say the same."
        )

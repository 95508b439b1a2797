"""Other spellings of settings: the short form `peers:`, and what files of the Redis-backed Lightbus contain.

Works on one place's settings before they are laid over others, so that a message can name the place.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from ..exceptions import InvalidConfiguration

__all__ = ["translate"]

logger = logging.getLogger("lightbus.config")

_BROKER_KEYS = ("rpc_transport", "result_transport", "event_transport", "schema_transport")

_NO_BROKER = {
    "debug": "only logged what it was given: here calls are made and events fired",
    "direct": "stayed in the process: here other processes are reached, too",
    "transactional": "fired events with the transaction of a database: here the outbox does (docs/outbox.md)",
}
"""Transports of 1.x whose users would miss something: what they did."""


def translate(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """
    Return the settings of one place as this version spells them; `origin` names the place in messages.

    Transports of a broker are left out, with one warning that names them all. Raises InvalidConfiguration
    where `peers` and `discovery.peers` are both written.
    """
    translated = _without_transports(values, origin)
    if translated.get("peers") is not None:
        discovery = translated.get("discovery") or {}
        if "peers" in discovery:
            raise InvalidConfiguration(
                f"Both peers and discovery.peers are written in {origin}. They are the same setting: keep one."
            )
        translated["discovery"] = {**discovery, "peers": translated["peers"]}
    translated.pop("peers", None)
    return translated


def _without_transports(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    kept = dict(values)
    ignored: list[str] = []
    if isinstance(kept.get("apis"), Mapping):
        kept["apis"] = {
            name: _without(api, _BROKER_KEYS, f"apis.{name}", ignored) for name, api in kept["apis"].items()
        }
    if isinstance(kept.get("bus"), Mapping) and "schema" in kept["bus"]:
        schema = _without(kept["bus"]["schema"], ("transport",), "bus.schema", ignored)
        kept["bus"] = {**kept["bus"], "schema": schema}
    if ignored:
        logger.warning(
            "Ignored in %s: %s. This Lightbus needs no broker; remove these keys.", origin, ", ".join(ignored)
        )
        _warn_of_missed(values, origin)
    return kept


def _warn_of_missed(values: Mapping[str, Any], origin: str) -> None:
    """Say which of the transports left out did what nothing here does in their place."""
    apis = values.get("apis")
    for name, api in apis.items() if isinstance(apis, Mapping) else ():
        for key in _BROKER_KEYS:
            transport = api.get(key) if isinstance(api, Mapping) else None
            for kind in transport if isinstance(transport, Mapping) else ():
                if kind in _NO_BROKER:
                    logger.warning("apis.%s.%s in %s: %s %s.", name, key, origin, kind, _NO_BROKER[kind])


def _without(section: Any, keys: tuple[str, ...], path: str, ignored: list[str]) -> Any:
    """Return `section` without `keys`, noting in `ignored` those it had. What is no section stays as it is."""
    if not isinstance(section, Mapping):
        return section
    ignored += [f"{path}.{key}" for key in keys if key in section]
    return {key: value for key, value in section.items() if key not in keys}

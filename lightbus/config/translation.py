"""Other spellings of settings: the short form `peers:`, and the settings of the Redis-backed Lightbus.

Works on the settings of one place before they are merged, so that a message can name the place.
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
"""Transport of 1.x with a function that is missing here -> the difference, as a log line says it."""


def translate(values: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """
    Return the settings of one place as this version spells them; `origin` names the place in messages.

    Transports of a broker are left out, with one warning that names them all. Raises InvalidConfiguration if both
    `peers` and `discovery.peers` are set.
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
    """Log a warning for each ignored transport that did something which has no replacement here."""
    apis = values.get("apis")
    for name, api in apis.items() if isinstance(apis, Mapping) else ():
        for key in _BROKER_KEYS:
            transport = api.get(key) if isinstance(api, Mapping) else None
            for kind in transport if isinstance(transport, Mapping) else ():
                if kind in _NO_BROKER:
                    logger.warning("apis.%s.%s in %s: %s %s.", name, key, origin, kind, _NO_BROKER[kind])


def _without(section: Any, keys: tuple[str, ...], path: str, ignored: list[str]) -> Any:
    """Return `section` without `keys`, adding to `ignored` those it had. A value that is no section is unchanged."""
    if not isinstance(section, Mapping):
        return section
    ignored += [f"{path}.{key}" for key in keys if key in section]
    return {key: value for key, value in section.items() if key not in keys}

from __future__ import annotations

import logging
from typing import Any

import pytest

from lightbus.config.translation import translate
from lightbus.exceptions import InvalidConfiguration


def test_peers_is_short_for_discovery_peers() -> None:
    """`peers:` at the top is the setting discovery.peers, beside the others of its section."""
    values = {"peers": ["auth:5570"], "discovery": {"mdns": False}}
    assert translate(values, "the file") == {"discovery": {"mdns": False, "peers": ["auth:5570"]}}
    assert translate({"peers": ["auth:5570"]}, "the file") == {"discovery": {"peers": ["auth:5570"]}}


@pytest.mark.parametrize("values", [{"peers": None}, {"peers": None, "discovery": {"peers": ["a:1"]}}])
def test_peers_without_a_value(values: dict[str, Any]) -> None:
    """`peers:` with nothing behind it is as if it were not written."""
    assert translate(values, "the file") == {key: value for key, value in values.items() if key != "peers"}


def test_peers_in_both_forms() -> None:
    """One setting in two spellings at once is refused: neither could be the right one."""
    with pytest.raises(
        InvalidConfiguration, match=r"Both peers and discovery\.peers are written in the file bus\.yaml"
    ):
        translate({"peers": ["a:1"], "discovery": {"peers": ["b:2"]}}, "the file bus.yaml")


def test_broker_transports_are_ignored_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    """A file for the Redis-backed Lightbus loads; one warning names the ignored settings."""
    redis = {"redis": {"url": "redis://localhost"}}
    values = {
        "bus": {"log_level": "debug", "schema": {"ttl": 60, "transport": redis}},
        "apis": {
            "default": {"rpc_timeout": 3, "rpc_transport": redis, "result_transport": redis},
            "auth": {"event_transport": redis},
        },
    }
    assert translate(values, "the file bus.yaml") == {
        "bus": {"log_level": "debug", "schema": {"ttl": 60}},
        "apis": {"default": {"rpc_timeout": 3}, "auth": {}},
    }
    assert caplog.record_tuples == [
        (
            "lightbus.config",
            logging.WARNING,
            "Ignored in the file bus.yaml: apis.default.rpc_transport, apis.default.result_transport, "
            "apis.auth.event_transport, bus.schema.transport. This Lightbus needs no broker; remove these keys.",
        )
    ]


@pytest.mark.parametrize(
    "values", [{}, {"apis": [1], "bus": 2}, {"apis": {"auth": 1}, "bus": {"schema": None}}, {"bus": {"name": "a"}}]
)
def test_rest_is_passed_on(values: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    """All other settings are passed on unchanged, invalid ones included; nothing is logged."""
    assert translate(values, "the file") == values
    assert caplog.records == []


def test_transports_without_a_replacement_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """Transports with a function that is missing here are named in a warning; Redis is not."""
    transports = {"rpc_transport": {"redis": {}}, "event_transport": {"transactional": {"child_transport": {}}}}
    translate(
        {"apis": {"shop": transports, "auth": {"rpc_transport": {"debug": {}}}, "odd": None}}, "the file bus.yaml"
    )
    _, *told = [record.getMessage() for record in caplog.records]
    assert told == [
        "apis.shop.event_transport in the file bus.yaml: transactional fired events with the transaction of a "
        "database: here the outbox does (docs/outbox.md).",
        "apis.auth.rpc_transport in the file bus.yaml: debug only logged what it was given: here calls are made and "
        "events fired.",
    ]

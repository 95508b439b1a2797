"""The settings of the backend `jetstream`."""

from __future__ import annotations

import pytest

from lightbus import InvalidConfiguration
from lightbus.adapters.nats.settings import NatsSettings


def test_environment_overrides_settings() -> None:
    """Servers and credentials may come from the environment, several servers separated by commas."""
    environ = {"LIGHTBUS_NATS_SERVERS": "nats://a:1, nats://b:2", "LIGHTBUS_NATS_CREDENTIALS": "/c"}
    settings = NatsSettings.read({"servers": ["nats://x"], "replicas": 3}, environ)
    assert (settings.servers, settings.credentials, settings.replicas) == (("nats://a:1", "nats://b:2"), "/c", 3)
    assert NatsSettings.read({}, {}) == NatsSettings()


def test_passwords_are_not_shown() -> None:
    """Not those in URLs either."""
    settings = NatsSettings(servers=("nats://shop:secret@a:1", "tls://b:2"))
    assert settings.places == "nats://a:1, tls://b:2"


def test_unusable_tls_files_are_named() -> None:
    """With the reason; without files the servers' URLs decide about encryption."""
    assert NatsSettings().tls is None
    with pytest.raises(InvalidConfiguration, match=r"names /nowhere/ca\.pem for tls, which cannot be used: "):
        _ = NatsSettings(tls_ca="/nowhere/ca.pem").tls


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"server": "nats://a"}, r"events\.server is not a setting of the backend jetstream\. Did you mean 'servers'"),
        ({"on_error": "retry"}, r"backend jetstream\. Each listener has its own: .*listen\(\.\.\., on_error="),
        ({"replicas": "three"}, r"events\.replicas cannot be 'three'\. The default is 1"),
        ({"replicas": True}, "replicas cannot be True"),
        ({"servers": []}, "servers cannot be"),
    ],
)
def test_invalid_settings_are_named(options: dict[str, object], fault: str) -> None:
    """With the existing settings."""
    with pytest.raises(InvalidConfiguration, match=fault):
        NatsSettings.read(options, {})

from __future__ import annotations

from typing import Any

import pytest
from pydantic_core import ValidationError

from lightbus.config import settings
from lightbus.config.keys import BusKey

KEY = BusKey.generate()


def refusal(section: type[settings.Settings], **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        section(**values)
    return caught.value.errors()[0]["msg"].removeprefix("Value error, ")


@pytest.mark.parametrize(
    ("section", "defaults"),
    [
        (settings.SchemaSettings, {"human_readable": True, "ttl": 3600.0}),
        (settings.BusSettings, {"name": None, "log_level": "info", "schema": {"human_readable": True, "ttl": 3600.0}}),
        (
            settings.ApiSettings,
            {
                "rpc_timeout": 5.0,
                "event_fire_timeout": 5.0,
                "event_listener_setup_timeout": 1.0,
                "validate": {"outgoing": True, "incoming": True},
                "strict_validation": False,
                "cast_values": True,
                "events": {"backend": "journal"},
            },
        ),
        (
            settings.NetworkSettings,
            {
                "interfaces": [],
                "advertise": [],
                "rpc_port": 0,
                "event_port": 0,
                "max_message_size": 67108864,
                "heartbeat_interval": 1.0,
                "heartbeat_timeout": 3.0,
            },
        ),
        (settings.DiscoverySettings, {"backend": "mdns", "mdns": True, "peers": [], "wait": 1.0}),
        (settings.SecuritySettings, {"mode": "host", "bus_key": (), "bus_key_file": None}),
        (
            settings.WorkerSettings,
            {
                "rpc_concurrency": 100,
                "rpc_queue": 1000,
                "max_queue_time": None,
                "drain_grace": 2.0,
                "shutdown_timeout": 10.0,
                "member_timeout": 10.0,
            },
        ),
        (
            settings.JournalSettings,
            {
                "data_dir": None,
                "durability": "process",
                "min_age": 86_400.0,
                "max_events": 10_000_000,
                "max_bytes": 4 * 1024**3,
                "group_expiry": 30 * 86_400.0,
            },
        ),
    ],
)
def test_defaults_are_those_of_the_documents(section: type[settings.Settings], defaults: dict[str, Any]) -> None:
    """The defaults are those the documents name."""
    assert section().model_dump(by_alias=True) == defaults


@pytest.mark.parametrize(
    ("written", "outgoing", "incoming"),
    [(True, True, True), (False, False, False), ({"incoming": False}, True, False), ({}, True, True)],
)
def test_validate_holds_for_both_ways_or_one(written: Any, outgoing: bool, incoming: bool) -> None:
    """`validate` is a switch for both directions, or one for each."""
    validation = settings.ApiSettings(validate=written).validation
    assert (validation.outgoing, validation.incoming) == (outgoing, incoming)


def test_log_level_in_capitals() -> None:
    """A log level may be written as `logging` writes it."""
    assert settings.BusSettings(log_level="DEBUG").log_level == "debug"  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("section", "values", "problem"),
    [
        (settings.NetworkSettings, {"rpc_port": 5570, "event_port": 5570}, "rpc_port and event_port are both 5570"),
        (settings.NetworkSettings, {"heartbeat_timeout": 1.0}, "heartbeat_timeout (1.0 s) must be longer than"),
        (settings.SecuritySettings, {"mode": "keys"}, "is 'keys', which is not available in this version"),
        (settings.SecuritySettings, {"mode": "curve"}, "not 'curve'. Did you mean 'bus_key'?"),
        (settings.SecuritySettings, {"mode": "Secure"}, "not 'Secure'. Did you mean 'bus_key'?"),
        (settings.SecuritySettings, {"mode": "bus_key"}, "has the mode bus_key, and there is no key. Make one with"),
        (settings.SecuritySettings, {"mode": "insecure", "bus_key": KEY.text}, "which protects nothing in that mode"),
        (settings.SecuritySettings, {"bus_key": "k"}, "is not a bus key"),
        (settings.SecuritySettings, {"bus_key": 5}, "must be a bus key"),
    ],
)
def test_impossible_settings_are_refused(
    section: type[settings.Settings], values: dict[str, Any], problem: str
) -> None:
    """Settings that contradict each other, or request something that does not exist yet, are refused."""
    assert problem in refusal(section, **values)


def test_a_key_chooses_the_mode() -> None:
    """With a key the bus is the key's, unless another mode is written out; then the key has no effect."""
    keyed = settings.SecuritySettings.model_validate({"bus_key": KEY.text})
    assert (keyed.mode, keyed.keys) == ("bus_key", (KEY,))
    host = settings.SecuritySettings.model_validate({"bus_key": [KEY.text], "mode": "host"})
    assert (host.mode, host.keys) == ("host", ())


def test_a_key_is_not_shown() -> None:
    """Settings that are printed or dumped show no key."""
    keyed = settings.SecuritySettings.model_validate({"bus_key": KEY.text})
    assert KEY.text not in f"{keyed!r} {keyed} {keyed.model_dump()}"


def test_ports_may_both_be_any() -> None:
    """0 is not a port but "any free one", so both may be it."""
    assert settings.NetworkSettings(rpc_port=0, event_port=0) == settings.NetworkSettings()


def test_settings_do_not_change() -> None:
    """A setting cannot be assigned to: who read it may rely on it."""
    with pytest.raises(AttributeError, match="frozen"):
        settings.WorkerSettings().rpc_queue = 5  # type: ignore[misc]
    with pytest.raises(AttributeError, match="frozen"):
        del settings.WorkerSettings().rpc_queue


def test_error_hides_the_value() -> None:
    """Not even pydantic's own account of an error shows what may be a key."""
    with pytest.raises(ValidationError) as caught:
        settings.SecuritySettings(bus_key="sesame")  # type: ignore[arg-type]
    assert "sesame" not in str(caught.value)


def test_plugin_options_are_its_own() -> None:
    """A plugin's section may hold anything beside `enabled`."""
    section = settings.PluginSettings.model_validate({"enabled": True, "interval": 60, "limit": None})
    assert (section.enabled, section.options) == (True, {"interval": 60, "limit": None})
    assert (settings.PluginSettings().enabled, settings.PluginSettings().options) == (False, {})


@pytest.mark.parametrize(
    ("written", "backend"),
    [({}, "mdns"), ({"mdns": False}, "none"), ({"mdns": "no"}, "none"), ({"mdns": False, "backend": "x"}, "x")],
)
def test_mdns_switched_off_is_the_backend_none(written: dict[str, object], backend: str) -> None:
    """The earlier setting still works; a named backend takes precedence."""
    assert settings.DiscoverySettings.model_validate(written).backend == backend

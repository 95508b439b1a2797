"""Settings without pydantic's core: every result equals that of the core."""

from __future__ import annotations

import random
from enum import Enum
from pathlib import Path
from typing import Any

import pytest
from pydantic_core import SchemaValidator

from lightbus.config import Config, settings
from lightbus.config.fields import Secret
from lightbus.config.plain_validation import NeedsPydantic, validated
from lightbus.config.sections import Settings

SECTIONS = [
    Config,
    settings.ApiSettings,
    settings.BusSettings,
    settings.DiscoverySettings,
    settings.EventsSettings,
    settings.JournalSettings,
    settings.NetworkSettings,
    settings.PluginSettings,
    settings.SecuritySettings,
    settings.ValidationSettings,
    settings.WorkerSettings,
]

VALUES: list[Any] = [
    None, True, False, "true", "False", "yes", "1", 0, 1, -1, 70_000, 10**20, 0.0, 2.5, -0.5, 5.0, float("nan"),
    float("inf"), "5", "5.5", " 5", "5_000", "+5", "1e3", "0x10", "05", "\u0663", "", "auth", "a b", "Info", "host",
    "insecure", "bus_key", "keys", "journal", "power", "10.0.0.7:5570", "10.0.0.7:5570, 10.0.0.8:1", "eth0,lo", "~/x",
    "/tmp/x", Path("/tmp/x"), b"auth", [], ["lo"], ("lo",), [1], {}, {"lo": 1}, {1: 2}, "events, rpcs", ["rpcs"],
    Secret("k"), {"enabled": True, "more": [1]}, {"backend": "memory", "size": 5}, object(), settings.ApiSettings(),
]  # fmt: skip
"""What people write, and what they should not."""


def state(value: Any) -> Any:
    """Return all that is in a value, with the types of its parts."""
    if isinstance(value, Settings):
        return type(value), [state(each) for each in value.__getstate__()]
    if isinstance(value, dict):
        return type(value), {key: state(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value), [state(each) for each in value]
    return type(value), value


def core_says(section: type[Settings], values: Any) -> Any:
    try:
        return state(SchemaValidator(section.core_schema()).validate_python(values))
    except ValueError:
        return ValueError


def call_directly(section: type[Settings], values: Any) -> Any:
    try:
        return state(validated(section.core_schema(), values))
    except NeedsPydantic:
        return NeedsPydantic


def keys(section: type[Settings]) -> list[str]:
    return [each.alias or name for name, each in section.model_fields.items()]


@pytest.mark.parametrize("section", SECTIONS)
def test_each_value_is_what_the_core_says(section: type[Settings]) -> None:
    """For each setting alone; or NeedsPydantic is raised."""
    said = 0
    for key in keys(section):
        for value in VALUES:
            found = call_directly(section, {key: value})
            assert found is NeedsPydantic or found == core_says(section, {key: value}), (key, value)
            said += found is not NeedsPydantic
    assert said >= len(keys(section)), "most that is right is said here"


@pytest.mark.parametrize("section", SECTIONS)
def test_several_values_are_what_the_core_says(section: type[Settings], chaos: random.Random) -> None:
    """Also if they contradict each other, or some are unknown."""
    for _ in range(300):
        names = [*keys(section), "unknown", "more"]
        values = {chaos.choice(names): chaos.choice(VALUES) for _ in range(chaos.randrange(4))}
        found = call_directly(section, values)
        assert found is NeedsPydantic or found == core_says(section, values), values


@pytest.mark.parametrize("values", [None, 5, "text", [], {1: 2}, settings.BusSettings()])
def test_invalid_section_is_left_to_the_core(values: Any) -> None:
    """The core reports such errors."""
    assert call_directly(Config, values) is NeedsPydantic


def test_what_the_environment_says_is_plain() -> None:
    """Numbers and switches are texts there, and lists have commas."""
    values = {
        "bus": {"name": "b", "log_level": "INFO"},
        "features": "rpcs,tasks",
        "security": {"mode": "insecure"},
        "network": {"interfaces": "lo, 127.0.0.1", "rpc_port": "5570", "heartbeat_timeout": "4.5"},
        "apis": {"default": {"rpc_timeout": 3, "validate": False}, "auth": {"cast_values": "false"}},
        "plugins": {"mine": {"enabled": "true", "size": 5}},
    }
    config = validated(Config.core_schema(), values)
    assert (config.network.rpc_port, config.network.heartbeat_timeout) == (5570, 4.5)
    assert (config.network.interfaces, config.apis["auth"].rpc_timeout) == (["lo", "127.0.0.1"], 3.0)
    assert [feature.value for feature in config.features] == ["rpcs", "tasks"]
    assert config.plugins["mine"].options == {"size": 5}
    assert call_directly(Config, values) == core_says(Config, values)


def test_the_section_itself_stays() -> None:
    """A section object is accepted unchanged."""
    network = settings.NetworkSettings(rpc_port=5)
    assert validated(Config.core_schema(), {"network": network}).network is network


def test_an_error_of_a_function_is_unclear() -> None:
    """It raises NeedsPydantic: the core reports the error with the path."""

    class Kind(Enum):
        ONE = 1

    core = {"type": "function-plain", "function": {"type": "no-info", "function": Kind}}
    assert validated(core, 1) is Kind.ONE
    with pytest.raises(NeedsPydantic):
        validated(core, 2)

from __future__ import annotations

import os
import pwd
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import ValidationError

from lightbus.config import ApiSettings, Config, ServiceName

APIS: dict[str, Any] = {
    "default": {"rpc_timeout": 2, "validate": {"incoming": False}},
    "auth": {"rpc_timeout": 9, "cast_values": False},
    "audit": {"validate": {"outgoing": False}},
    "cash": {"validate": True},
}
SECTIONS = st.fixed_dictionaries(
    {},
    optional={
        "rpc_timeout": st.floats(min_value=0.1, max_value=100),
        "cast_values": st.booleans(),
        "validate": st.fixed_dictionaries({}, optional={"outgoing": st.booleans(), "incoming": st.booleans()}),
    },
)


@pytest.mark.parametrize(
    ("api", "timeout", "cast_values", "outgoing", "incoming"),
    [
        ("auth", 9.0, False, True, False),
        ("audit", 2.0, True, False, False),
        ("cash", 2.0, True, True, True),
        ("somebody.elses", 2.0, True, True, False),
        ("default", 2.0, True, True, False),
    ],
)
def test_api_inherits_from_default_key_by_key(
    api: str, timeout: float, cast_values: bool, outgoing: bool, incoming: bool
) -> None:
    """Settings that an API does not give come from `default`, each direction of `validate` separately."""
    settings = Config.model_validate({"apis": APIS}).api(api)
    assert (settings.rpc_timeout, settings.cast_values) == (timeout, cast_values)
    assert (settings.validation.outgoing, settings.validation.incoming) == (outgoing, incoming)


@given(SECTIONS, SECTIONS)
def test_inherited_settings_are_the_merged_ones(default: dict[str, Any], own: dict[str, Any]) -> None:
    """An API's settings are what the file would say if `default` were copied into its section."""
    copied = {**default, **own, "validate": {**default.get("validate", {}), **own.get("validate", {})}}
    config = Config.model_validate({"apis": {"default": default, "auth": own}})
    assert config.api("auth") == ApiSettings.model_validate(copied)


def test_api_without_any_section() -> None:
    """With nothing configured, every API has the defaults; the same object each time, since each call asks."""
    config = Config()
    assert config.api("auth") == ApiSettings()
    assert config.api("auth") is config.api("customers")


def test_written_settings_make_the_same_config() -> None:
    """Written settings, read again, give the same configuration, inheritance included."""
    values = {"service_name": "auth", "apis": APIS, "plugins": {"state": {"enabled": True, "limit": None}}}
    config = Config.model_validate(values)
    assert Config.model_validate(config.written()) == config
    assert config.written()["apis"]["auth"] == {"rpc_timeout": 9.0, "cast_values": False}


@pytest.mark.parametrize("features", ["rpcs,tasks", ["rpcs", "tasks"]])
def test_features_by_their_words(features: Any) -> None:
    """Features are named in a list, or in a string with commas."""
    assert [feature.value for feature in Config(features=features).features] == ["rpcs", "tasks"]


def test_bus_name_is_the_one_written() -> None:
    """A bus name that was written out holds; without one the bus is the user's own."""
    assert Config.model_validate({"bus": {"name": "main"}}).bus_name == "main"
    assert Config().bus_name in {f"host-{pwd.getpwuid(os.getuid()).pw_name}", f"host-{os.getuid()}"}


def test_insecure_wants_a_bus_name() -> None:
    """Plain TCP without a bus name is refused, and the error says how to set one."""
    with pytest.raises(ValidationError, match=r"Set LIGHTBUS_BUS or bus\.name"):
        Config.model_validate({"security": {"mode": "insecure"}})
    named = Config.model_validate({"security": {"mode": "insecure"}, "bus": {"name": "main"}})
    assert named.security.mode == "insecure"


def test_chosen_service_name_is_no_default() -> None:
    """A configured service name has no `default_name`."""
    assert Config(service_name="auth").default_name is None


def test_config_without_a_service_name_says_so() -> None:
    """A Config made directly has the name `unnamed`, marked as a default."""
    assert Config().service_name == "unnamed"
    assert Config().default_name == ServiceName(name="unnamed", says_something=False)


def test_default_name_stays_a_default() -> None:
    """A default service name is used, stays marked as a default, and is not written."""
    name = ServiceName(name="customers", says_something=True)
    config = Config().with_default_name(name)
    assert (config.service_name, config.default_name) == ("customers", name)
    assert "service_name" not in config.written()

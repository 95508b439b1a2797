from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import ValidationError

from lightbus.config import Config
from lightbus.config.layers import Layer, Merged, merge
from lightbus.config.problems import explain
from lightbus.config.settings import PluginSettings
from lightbus.exceptions import InvalidConfiguration

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
SECTIONS = st.sampled_from([*Config.model_fields, "x"])
KEYS = st.sampled_from(
    ["name", "mode", "peers", "rpc_port", "rpc_concurrency", "data_dir", "log_level", "schema", "mdns", "default", "x"]
)


def problem(values: dict[str, Any]) -> str:
    merged = merge([Layer(origin="the file bus.yaml", values=values)])
    with pytest.raises(ValidationError) as caught:
        Config.model_validate(merged.values)
    return str(explain(caught.value, Config, merged))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"network": {"rpc_prt": 1}},
            "network.rpc_prt (from the file bus.yaml) is not a setting. Did you mean 'rpc_port'?",
        ),
        (
            {"discovery": {"zzz": 1}},
            "discovery.zzz (from the file bus.yaml) is not a setting. There is: backend, mdns, peers, wait.",
        ),
        (
            {"apis": {"auth": {"validat": True}}},
            "apis.auth.validat (from the file bus.yaml) is not a setting. Did you mean 'validate'?",
        ),
        (
            {"apis": {"auth": {"validate": {"outgoin": True}}}},
            "apis.auth.validate.outgoin (from the file bus.yaml) is not a setting. Did you mean 'outgoing'?",
        ),
        (
            {"zzz": 1},
            "zzz (from the file bus.yaml) is not a setting. There is: apis, bus, discovery, features, journal, "
            "network, plugins, process_name, security, service_name, worker.",
        ),
        (
            {"rpc_timeout": 3},
            "rpc_timeout (from the file bus.yaml) is not a setting. Did you mean 'apis.<name>.rpc_timeout'?",
        ),
        (
            {"rpc_timeot": 3},
            "rpc_timeot (from the file bus.yaml) is not a setting. Did you mean 'apis.<name>.rpc_timeout'?",
        ),
        (
            {"apis": {"auth": {"max_deliveries": 3}}},
            "apis.auth.max_deliveries (from the file bus.yaml) is not a setting. "
            "Each listener has its own: bus.<api>.<event>.listen(..., max_deliveries=...).",
        ),
        (
            {"events": {"max_deliveries": 3}},
            "events (from the file bus.yaml) is not a setting. "
            "Each listener has its own: bus.<api>.<event>.listen(..., max_deliveries=...).",
        ),
        (
            {"worker": {"concurrency": 3}},
            "worker.concurrency (from the file bus.yaml) is not a setting. Did you mean 'rpc_concurrency'? "
            "Each listener has its own: bus.<api>.<event>.listen(..., concurrency=...).",
        ),
        (
            {"apis": {"auth": {"events": {"on_error": "retry"}}}},
            "apis (from the file bus.yaml) has auth.events.on_error, which is not a setting of the backend journal. "
            "Each listener has its own: bus.<api>.<event>.listen(..., on_error=...).",
        ),
        ({"bus": {"shema": {}}}, "bus.shema (from the file bus.yaml) is not a setting. Did you mean 'schema'?"),
        (
            {"security": {"mode": "hots"}},
            "security.mode (from the file bus.yaml) must be 'host', 'bus_key' or 'insecure', not 'hots'. "
            "Did you mean 'host'?",
        ),
        (
            {"features": ["rpcs", "event"]},
            "features[1] (from the file bus.yaml) must be 'rpcs', 'events' or 'tasks', not 'event'. "
            "Did you mean 'events'?",
        ),
        ({"bus": "main"}, "bus (from the file bus.yaml) must be a section with keys of its own, not 'main'."),
        ({"apis": ["auth"]}, "apis (from the file bus.yaml) must be a section with keys of its own, not ['auth']."),
        ({"features": 5}, "features (from the file bus.yaml) must be a list, not 5."),
        ({"network": {"interfaces": 5}}, "network.interfaces (from the file bus.yaml) must be a list, not 5."),
        (
            {"discovery": {"mdns": "maybe"}},
            "discovery.mdns (from the file bus.yaml) must be true or false, not 'maybe'.",
        ),
        ({"discovery": {"mdns": []}}, "discovery.mdns (from the file bus.yaml) must be true or false, not []."),
        ({"discovery": {"wait": "long"}}, "discovery.wait (from the file bus.yaml) must be a number, not 'long'."),
        ({"discovery": {"wait": []}}, "discovery.wait (from the file bus.yaml) must be a number, not []."),
        ({"discovery": {"wait": -1}}, "discovery.wait (from the file bus.yaml) must be at least 0, not -1."),
        (
            {"discovery": {"wait": float("inf")}},
            "discovery.wait (from the file bus.yaml) must be a finite number, not inf.",
        ),
        ({"bus": {"schema": {"ttl": 0}}}, "bus.schema.ttl (from the file bus.yaml) must be more than 0, not 0."),
        (
            {"network": {"rpc_port": 1e5}},
            "network.rpc_port (from the file bus.yaml) must be at most 65535, not 100000.0.",
        ),
        ({"network": {"rpc_port": 1.5}}, "network.rpc_port (from the file bus.yaml) must be a whole number, not 1.5."),
        ({"network": {"rpc_port": "x"}}, "network.rpc_port (from the file bus.yaml) must be a whole number, not 'x'."),
        ({"service_name": 5}, "service_name (from the file bus.yaml) must be text, not 5."),
        ({"service_name": ["x" * 99]}, f"service_name (from the file bus.yaml) must be text, not ['{'x' * 58}...."),
        ({"journal": {"data_dir": 5}}, "journal.data_dir (from the file bus.yaml) must be a path, not 5."),
        (
            {"peers": 1, "bus": {}},
            "peers (from the file bus.yaml) is not a setting. Did you mean 'discovery.peers'?",
        ),
        (
            {"security": {"mode": "insecure"}},
            "security.mode is insecure, which needs an explicit bus name, or strangers on the same network "
            "would share a bus by accident. Set LIGHTBUS_BUS or bus.name.",
        ),
    ],
)
def test_each_fault_is_a_sentence_with_key_and_remedy(values: dict[str, Any], sentence: str) -> None:
    """Each kind of fault gives a sentence with the key, its origin, and what to write."""
    assert problem(values) == sentence


def test_several_faults_are_listed() -> None:
    """All faults are listed, a line each."""
    assert problem({"bus": {"name": ""}, "worker": {"rpc_queue": "x"}}) == (
        "The configuration has several faults:\n"
        "  - bus.name (from the file bus.yaml) must be 1 to 63 of A-Z a-z 0-9 _ . - "
        "and begin with a letter or digit, not ''.\n"
        "  - worker.rpc_queue (from the file bus.yaml) must be a whole number, not 'x'."
    )


def test_section_of_a_larger_whole() -> None:
    """The faults of a section validated by itself are listed with their full path."""
    with pytest.raises(ValidationError) as caught:
        PluginSettings.model_validate({"enabled": "maybe"})
    error = explain(caught.value, PluginSettings, Merged(), at=("plugins", "state"))
    assert str(error) == "plugins.state.enabled must be true or false, not 'maybe'."


@pytest.mark.long
@given(st.dictionaries(SECTIONS, JSON | st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON))))
def test_any_settings_are_taken_or_explained(values: dict[str, Any]) -> None:
    """Any file gives a Config, or an error without pydantic's own texts."""
    merged = merge([Layer(origin="the file bus.yaml", values=values)])
    try:
        Config.model_validate(merged.values)
    except ValidationError as error:
        explained = explain(error, Config, merged)
        assert isinstance(explained, InvalidConfiguration)
        assert "Input should be" not in str(explained)
        assert "pydantic" not in str(explained)

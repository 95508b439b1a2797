from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus import InvalidConfiguration
from lightbus.config.layers import KeyPath, Layer, merge

KEYS = st.sampled_from(["a", "b", "c"])
TREES = st.recursive(
    st.dictionaries(KEYS, st.integers()), lambda inner: st.dictionaries(KEYS, st.integers() | inner), max_leaves=10
)


def test_later_layer_wins_key_by_key() -> None:
    """Of a section, each key comes from the strongest layer that has it."""
    merged = merge(
        [
            Layer(origin="the file", values={"bus": {"name": "a", "log_level": "info"}, "peers": ["x", "y"]}),
            Layer(origin="the environment", values={"bus": {"name": "b"}, "peers": ["z"]}),
        ]
    )
    assert merged.values == {"bus": {"name": "b", "log_level": "info"}, "peers": ["z"]}


def test_section_that_contains_itself_is_refused() -> None:
    """As an anchor of YAML can make one; the error says where it comes from."""
    section: dict[str, Any] = {}
    section["bus"] = section
    with pytest.raises(InvalidConfiguration, match="A section from the file contains itself"):
        merge([Layer(origin="the file", values=section)])


@pytest.mark.parametrize(
    ("path", "origin"),
    [
        (("bus", "name"), "the environment"),
        (("bus", "log_level"), "the file"),
        (("peers", 1), "the file"),
        (("network", "rpc_port"), None),
        ((), None),
    ],
)
def test_origin_is_remembered(path: KeyPath, origin: str | None) -> None:
    """Each key knows the place that wrote it last; an item of a list has that of the list, a default has none."""
    merged = merge(
        [
            Layer(origin="the file", values={"bus": {"name": "a", "log_level": "info"}, "peers": ["x", "y"]}),
            Layer(origin="the environment", values={"bus": {"name": "b"}}),
        ]
    )
    assert merged.origin_of(path) == origin


def test_nothing_counts_as_not_written() -> None:
    """An empty section, or an argument not given, does not override weaker layers."""
    merged = merge([Layer(origin="1", values={"bus": {"name": "a"}}), Layer(origin="2", values={"bus": None})])
    assert merged.values == {"bus": {"name": "a"}}
    assert merged.origin_of(("bus",)) == "1"


def test_nothing_is_a_value_for_a_plugin() -> None:
    """A plugin's own option may be None."""
    merged = merge([Layer(origin="1", values={"plugins": {"state": {"limit": None}, "metrics": None}})])
    assert merged.values == {"plugins": {"state": {"limit": None}}}


def test_section_replaces_a_value() -> None:
    """If a weaker layer has a value where a stronger one has a section, the section is used."""
    merged = merge([Layer(origin="1", values={"bus": "main"}), Layer(origin="2", values={"bus": {"name": "a"}})])
    assert merged.values == {"bus": {"name": "a"}}


def test_layers_are_left_alone() -> None:
    """Merging does not change the layers."""
    weak: dict[str, Any] = {"bus": {"name": "a"}}
    merge([Layer(origin="1", values=weak), Layer(origin="2", values={"bus": {"name": "b"}})])
    assert weak == {"bus": {"name": "a"}}


@given(TREES, TREES)
def test_strongest_layer_holds_whole(weak: dict[str, Any], strong: dict[str, Any]) -> None:
    """Everything in the strongest layer is in the result, and merging it again changes nothing."""
    strong_layer = Layer(origin="2", values=strong)
    once = merge([Layer(origin="1", values=weak), strong_layer])
    assert merge([Layer(origin="1", values=once.values), strong_layer]).values == once.values
    assert_within(strong, once.values)


def assert_within(part: dict[str, Any], whole: dict[str, Any]) -> None:
    for key, value in part.items():
        if isinstance(value, dict):
            assert_within(value, whole[key])
        else:
            assert whole[key] == value

"""Adapters of other packages that settings name."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from lightbus.adapters.memory.discovery import NoDiscovery
from lightbus.config import load_config
from lightbus.engine.entry_points import named_factory
from lightbus.engine.event_backends import EventBackendChoice
from lightbus.engine.network import Network
from lightbus.exceptions import InvalidConfiguration

POINTS = [
    EntryPoint("nobody", "lightbus.adapters.memory.discovery:NoDiscovery", "some_group"),
    EntryPoint("odd", "no_such_module:Thing", "some_group"),
]


@pytest.fixture(autouse=True)
def points(monkeypatch: pytest.MonkeyPatch) -> None:
    """There are some entry points in any group."""
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: POINTS)


def test_factory_of_another_package() -> None:
    """It is found by the name of its entry point."""
    assert named_factory("discovery.backend", "nobody", group="some_group", built_in=()) is NoDiscovery


def test_entry_point_that_cannot_be_imported() -> None:
    """The error names it, with its target and the reason of the failure."""
    words = r"backend 'odd' \(no_such_module:Thing\) cannot be imported: No module"
    with pytest.raises(InvalidConfiguration, match="^discovery." + words):
        Network(load_config({"discovery": {"backend": "odd"}}), "b")
    with pytest.raises(InvalidConfiguration, match="^apis.<name>.events." + words):
        EventBackendChoice(load_config({"apis": {"shop": {"events": {"backend": "odd"}}}}))


def test_misspelt_name() -> None:
    """The error says which one may be meant, one of the library's own as well."""
    with pytest.raises(
        InvalidConfiguration, match=r"is 'mdsn', and there is: mdns, none, nobody, odd\. Did you mean.*mdns"
    ):
        Network(load_config({"discovery": {"backend": "mdsn"}}), "b")
    with pytest.raises(InvalidConfiguration, match=r"Did you mean.*jetstream.*Install the package"):
        EventBackendChoice(load_config({"apis": {"shop": {"events": {"backend": "jetsream"}}}}))

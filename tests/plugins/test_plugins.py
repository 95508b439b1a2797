from __future__ import annotations

import asyncio
import importlib.metadata
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pydantic
import pytest

from lightbus.config import Config
from lightbus.exceptions import InvalidConfiguration
from lightbus.plugins import LightbusPlugin, load_plugins, register_plugin
from lightbus.service.execution import CallersContext
from lightbus.service.hooks import HOOKS, HookRegistry


class Quiet(LightbusPlugin):
    """Overrides nothing."""


class Meter(LightbusPlugin):
    """Counts calls; has its own settings."""

    priority = 110

    def __init__(self, service_name: str = "", interval: float = 60.0) -> None:
        self.service_name = service_name
        self.interval = interval
        self.seen: list[Any] = []

    @classmethod
    def from_config(cls, *, config: Config, interval: float = 60.0) -> Meter:
        return cls(config.service_name, interval)

    async def before_rpc_call(self, *, rpc_message: Any, client: Any) -> None:
        self.seen.append((rpc_message, client))


class Checked(Meter):
    """Has its settings checked."""

    class Config(pydantic.BaseModel):
        interval: float = 30.0


INSTALLED = {
    "quiet": "plugins_of_this_test:Quiet",
    "meter": "plugins_of_this_test:Meter",
    "checked": "plugins_of_this_test:Checked",
    "broken": "plugins_of_this_test:Nowhere",
    "alien": "plugins_of_this_test:dict",
}


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install a distribution that announces plugins."""
    info = tmp_path / "plugins_of_this_test-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins-of-this-test\nVersion: 1\n")
    entries = "\n".join(f"{name} = {value}" for name, value in INSTALLED.items())
    (info / "entry_points.txt").write_text(f"[lightbus_plugins]\n{entries}\n")
    module = ModuleType("plugins_of_this_test")
    module.__dict__.update(Quiet=Quiet, Meter=Meter, Checked=Checked, dict=dict)
    monkeypatch.setitem(sys.modules, "plugins_of_this_test", module)
    monkeypatch.syspath_prepend(str(tmp_path))


def load(**plugins: dict[str, Any]) -> list[LightbusPlugin]:
    return load_plugins(Config.model_validate({"service_name": "auth", "plugins": plugins}))


def refusal(**plugins: dict[str, Any]) -> str:
    with pytest.raises(InvalidConfiguration) as caught:
        load(**plugins)
    return str(caught.value)


def test_base_class_has_every_hook_with_its_details() -> None:
    """One async method per hook, and a plain one per wrapping hook, with the arguments of 1.x."""
    for name, details in HOOKS.items():
        method = getattr(LightbusPlugin, name)
        assert inspect.iscoroutinefunction(method) is not name.startswith("around_")
        taken = [parameter for parameter in inspect.signature(method).parameters.values() if parameter.name != "self"]
        assert {parameter.name for parameter in taken} | {"listener_name"} == {*details, "listener_name"}
        assert {parameter.kind for parameter in taken} == {inspect.Parameter.KEYWORD_ONLY}


def test_plugin_costs_only_what_it_overrides() -> None:
    """Only overridden hooks are registered: a plugin that overrides nothing costs nothing."""
    registry = HookRegistry()
    register_plugin(registry, Quiet())
    assert [name for name in HOOKS if registry.has(name)] == []
    register_plugin(registry, Meter())
    assert [name for name in HOOKS if registry.has(name)] == ["before_rpc_call"]


def test_plugin_is_called() -> None:
    """A registered plugin's method is awaited with the details of the hook."""
    registry, meter = HookRegistry(), Meter()
    register_plugin(registry, meter)
    call = CallersContext(None).call
    asyncio.run(registry.run("before_rpc_call", call, client="the client", rpc_message="a call"))
    assert meter.seen == [("a call", "the client")]


def test_plugins_stand_by_priority() -> None:
    """A plugin with a smaller priority comes first, whichever was registered first."""

    class Early(Meter):
        priority = 1

    registry, meter, early = HookRegistry(), Meter(), Early()
    register_plugin(registry, meter)
    register_plugin(registry, early)
    assert registry.functions("before_rpc_call") == (early.before_rpc_call, meter.before_rpc_call)


def test_nothing_enabled_nothing_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an enabled plugin entry points are not searched, which takes tens of milliseconds."""

    def search(**_: Any) -> None:
        raise AssertionError("the installed distributions were searched")

    monkeypatch.setattr(importlib.metadata, "entry_points", search)
    assert load() == []
    assert load(meter={"enabled": False}, missing={}) == []


def test_settings_of_one_that_is_not_enabled(caplog: pytest.LogCaptureFixture) -> None:
    """Settings of a plugin without `enabled` give a warning; with `enabled: false` they do not."""
    assert load(health={"port": 8081}, meter={"enabled": False, "interval": 5}, missing={}) == []
    (message,) = caplog.messages
    assert "plugins.health has settings and no effect" in message


@pytest.mark.usefixtures("installed")
def test_enabled_plugins_are_made() -> None:
    """An installed plugin that is enabled is made by `from_config`, with its own settings."""
    meter, quiet = load(quiet={"enabled": True}, meter={"enabled": True, "interval": 5}, checked={"enabled": False})
    assert isinstance(meter, Meter)
    assert (meter.service_name, meter.interval) == ("auth", 5)
    assert isinstance(quiet, Quiet)


@pytest.mark.usefixtures("installed")
def test_settings_model_checks_and_fills_in() -> None:
    """A plugin's own model validates its settings and fills in defaults."""
    (plugin,) = load(checked={"enabled": True})
    assert isinstance(plugin, Checked)
    assert plugin.interval == 30.0
    (plugin,) = load(checked={"enabled": True, "interval": "5"})
    assert isinstance(plugin, Checked)
    assert plugin.interval == 5.0


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("plugins", "problem"),
    [
        (
            {"metre": {"enabled": True}},
            "plugins.metre is enabled, but no plugin of that name is installed. Did you mean 'meter'? Installed: ",
        ),
        (
            {"broken": {"enabled": True}},
            "plugins.broken is enabled, but plugins_of_this_test:Nowhere cannot be imported",
        ),
        ({"alien": {"enabled": True}}, "plugins.alien: plugins_of_this_test:dict is not a subclass of LightbusPlugin."),
        (
            {"meter": {"enabled": True, "intervall": 5}},
            "plugins.meter has settings that Meter cannot take: got an unexpected keyword argument 'intervall'.",
        ),
        (
            {"quiet": {"enabled": True, "interval": 5}},
            "plugins.quiet has settings that Quiet cannot take: got an unexpected keyword argument 'interval'.",
        ),
        ({"checked": {"enabled": True, "interval": "x"}}, "plugins.checked.interval must be a number, not 'x'."),
    ],
)
def test_plugin_that_cannot_be_made(plugins: dict[str, Any], problem: str) -> None:
    """A plugin that is not there, cannot be imported or does not take its settings is named, with the reason."""
    assert refusal(**plugins).startswith(problem)


@pytest.mark.usefixtures("installed")
def test_plugin_that_lacks_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The error has the plugin's own text, and not a repr of it."""

    def load_it(_: Any) -> None:
        raise InvalidConfiguration("It needs the package x: pip install x")

    monkeypatch.setattr(importlib.metadata.EntryPoint, "load", load_it)
    assert refusal(meter={"enabled": True}) == "plugins.meter is enabled: It needs the package x: pip install x"


@pytest.mark.parametrize("show", [str, lambda plugin: f"{plugin}"])
def test_plugin_is_shown_by_its_class(show: Callable[[LightbusPlugin], str]) -> None:
    """A plugin's text is the name of its class."""
    assert show(Quiet()) == f"{Quiet.__module__}.Quiet"

"""Plugins: objects whose methods are hooks. The base class, and how plugins are loaded and configured.

Plugins are entry points of the group `lightbus_plugins`, enabled by name in the configuration
(`plugins.<name>.enabled`). If none is enabled, entry points are not searched.
"""

from __future__ import annotations

import inspect
import logging
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar, Self

from .. import config as settings
from ..exceptions import InvalidConfiguration, InvalidDeclaration, did_you_mean
from ..message import EventMessage, ResultMessage, RpcMessage
from ..service.hooks import HOOKS, HookRegistry

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from pydantic import BaseModel

__all__ = ["ENTRY_POINT_GROUP", "LightbusPlugin", "load_plugins", "register_plugin"]

logger = logging.getLogger("lightbus.plugins")

ENTRY_POINT_GROUP = "lightbus_plugins"

_SETTINGS = "Plugins have settings instead: arguments of from_config(), given by plugins.<name> of the configuration."
_GONE_HOOKS = {
    "before_parse_args": _SETTINGS,
    "receive_args": _SETTINGS,
    "exception": "See result_message.error in after_rpc_execution(), or have around_event_execution() wrap a listener.",
}


class LightbusPlugin:
    """
    Base class of plugins: override the hooks you need. Hooks that are not overridden cost nothing.

    An exception in a hook reaches the call, the event or the worker it belongs to.
    """

    priority: ClassVar[int] = 1000
    """Plugins with a smaller number run first."""

    Config: ClassVar[type[BaseModel] | None] = None
    """A pydantic model that validates the plugin's own settings before `from_config` gets them, or None."""

    @classmethod
    def from_config(cls, *, config: settings.Config) -> Self:
        """
        Make the plugin for this configuration.

        A plugin with its own settings overrides it with an argument for each:
        `def from_config(cls, *, config, interval=60)`.
        """
        return cls()

    def __str__(self) -> str:
        return f"{type(self).__module__}.{type(self).__qualname__}"

    async def on_start(self, *, client: Any) -> None:
        """Called before the client begins to work."""

    async def on_stop(self, *, client: Any) -> None:
        """Called after the client has stopped working."""

    async def before_worker_start(self, *, client: Any) -> None:
        """Called before the worker accepts calls and events."""

    async def after_worker_started(self, *, client: Any) -> None:
        """Called once the worker serves: peers know it, and its listeners are subscribed."""

    async def after_worker_stopped(self, *, client: Any) -> None:
        """Called after the worker has finished its last call and event."""

    async def before_rpc_call(self, *, rpc_message: RpcMessage, client: Any) -> None:
        """Called before a call is sent."""

    async def after_rpc_call(self, *, rpc_message: RpcMessage, result_message: ResultMessage, client: Any) -> None:
        """Called after the result of a call has arrived."""

    async def before_rpc_execution(self, *, rpc_message: RpcMessage, client: Any) -> None:
        """Called before a received call is executed."""

    async def after_rpc_execution(self, *, rpc_message: RpcMessage, result_message: ResultMessage, client: Any) -> None:
        """Called after a call was executed, before its result is sent."""

    async def before_event_sent(self, *, event_message: EventMessage, client: Any) -> None:
        """Called before an event is fired."""

    async def after_event_sent(self, *, event_message: EventMessage, client: Any) -> None:
        """Called after an event was fired."""

    async def before_event_execution(self, *, event_message: EventMessage, client: Any) -> None:
        """Called before a listener gets an event."""

    async def after_event_execution(self, *, event_message: EventMessage, client: Any) -> None:
        """Called after a listener has handled an event."""

    async def on_events_lost(self, *, client: Any, api_name: str, event_name: str, group: str, count: int) -> None:
        """Called when a publisher's retention has deleted events that were not delivered to a listener yet."""

    # The `around_` hooks are plain functions that must not block. The context manager they return is entered before the
    # `before_` hooks and exited after the `after_` hooks, on failure with the exception.

    def around_rpc_call(self, *, rpc_message: RpcMessage, client: Any) -> AbstractContextManager[Any] | None:
        """Wrap a call, from before it is sent until its result has arrived."""

    def around_rpc_execution(self, *, rpc_message: RpcMessage, client: Any) -> AbstractContextManager[Any] | None:
        """Wrap the execution of a received call."""

    def around_event_sent(self, *, event_message: EventMessage, client: Any) -> AbstractContextManager[Any] | None:
        """Wrap the firing of an event."""

    def around_event_execution(
        self, *, event_message: EventMessage, listener_name: str, client: Any
    ) -> AbstractContextManager[Any] | None:
        """Wrap the handling of an event by a listener."""


def register_plugin(registry: HookRegistry, plugin: LightbusPlugin) -> None:
    """Add the hooks that `plugin` overrides to `registry`. Raises InvalidDeclaration for a hook that only 1.x has."""
    for name, instead in _GONE_HOOKS.items():
        if callable(getattr(type(plugin), name, None)):
            raise InvalidDeclaration(
                f"The plugin {plugin} has the hook {name}() of Lightbus 1.x, which nothing calls here. {instead}"
            )
    for name in HOOKS:
        if getattr(type(plugin), name) is not getattr(LightbusPlugin, name):
            registry.add_for_plugin(name, getattr(plugin, name), priority=plugin.priority)


def load_plugins(config: settings.Config) -> list[LightbusPlugin]:
    """
    Return the plugins that `config` enables, in the order of their names.

    Raises InvalidConfiguration, naming the plugin, if it is not installed, cannot be imported, or refuses its settings.
    """
    _warn_of_idle_settings(config)
    enabled = sorted(name for name, section in config.plugins.items() if section.enabled)
    if not enabled:
        return []  # without searching entry points, which takes tens of milliseconds
    from importlib.metadata import entry_points

    installed = {entry_point.name: entry_point for entry_point in entry_points(group=ENTRY_POINT_GROUP)}
    return [_make(name, _plugin_class(name, installed), config) for name in enabled]


def _warn_of_idle_settings(config: settings.Config) -> None:
    """Log a warning for each plugin that has settings, but neither `enabled: true` nor `enabled: false`."""
    for name, section in sorted(config.plugins.items()):
        if section.options and "enabled" not in section.model_fields_set:
            logger.warning(
                "plugins.%s has settings and no effect, since it is not enabled: add `enabled: true` to it (or "
                "`enabled: false`, which ends this warning).",
                name,
            )


def _plugin_class(name: str, installed: dict[str, EntryPoint]) -> type[LightbusPlugin]:
    if name not in installed:
        raise InvalidConfiguration(
            f"plugins.{name} is enabled, but no plugin of that name is installed.{did_you_mean(name, installed)} "
            f"Installed: {', '.join(sorted(installed)) or 'none'}."
        )
    try:
        found = installed[name].load()
    except InvalidConfiguration as error:  # the plugin's own text says what is missing
        raise InvalidConfiguration(f"plugins.{name} is enabled: {error}") from error
    except Exception as error:  # the import may raise anything
        raise InvalidConfiguration(
            f"plugins.{name} is enabled, but {installed[name].value} cannot be imported: {error!r}. "
            f"Repair its installation, or disable it."
        ) from error
    if not (isinstance(found, type) and issubclass(found, LightbusPlugin)):
        raise InvalidConfiguration(f"plugins.{name}: {installed[name].value} is not a subclass of LightbusPlugin.")
    return found


def _make(name: str, plugin_class: type[LightbusPlugin], config: settings.Config) -> LightbusPlugin:
    options = config.plugins[name].options
    if plugin_class.Config is not None:
        options = _checked(name, options, plugin_class.Config)
    try:
        inspect.signature(plugin_class.from_config).bind(config=config, **options)
    except TypeError as error:
        raise InvalidConfiguration(
            f"plugins.{name} has settings that {plugin_class.__qualname__} cannot take: {error}."
        ) from error
    return plugin_class.from_config(config=config, **options)


def _checked(name: str, options: dict[str, Any], model: type[BaseModel]) -> dict[str, Any]:
    from pydantic import ValidationError

    from ..config.layers import Merged
    from ..config.problems import explain

    try:
        return dict(model.model_validate(options))
    except ValidationError as error:
        raise explain(error, model, Merged(), at=("plugins", name)) from None

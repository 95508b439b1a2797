"""The whole configuration of a bus client: its sections, and the values derived from several of them."""

from __future__ import annotations

from typing import Any, Self, TypeVar

from ..phrases import hint_of_listener
from . import names
from .features import ALL_FEATURES, Feature
from .fields import NAME, split
from .names import ServiceName
from .old_forms import OldForms, Sections
from .sections import Settings, ValueKind, after, before, section, sections, setting
from .settings import (
    ApiSettings,
    BusSettings,
    DiscoverySettings,
    JournalSettings,
    NetworkSettings,
    PluginSettings,
    SecuritySettings,
    WorkerSettings,
)

__all__ = ["Config"]

_Section = TypeVar("_Section", bound=Settings)


def _inherit(own: _Section, parent: _Section) -> _Section:
    """Return `own` with each value that was not set taken from `parent`, in nested sections too."""
    values: dict[str, Any] = {}
    for key in own.model_fields:
        mine, theirs = getattr(own, key), getattr(parent, key)
        if isinstance(mine, Settings):
            values[key] = _inherit(mine, theirs)
        else:
            values[key] = mine if key in own.model_fields_set else theirs
    if own.model_extra is not None and values["backend"] == getattr(parent, "backend", None):
        values = {**(parent.model_extra or {}), **values}
    return own.model_construct(set(own.model_fields_set), {**values, **(own.model_extra or {})})


def _inherit_from_default(apis: dict[str, ApiSettings]) -> dict[str, ApiSettings]:
    default = apis.get("default", ApiSettings())
    inherited = {name: _inherit(api, default) for name, api in {"default": default, **apis}.items()}
    for name, api in inherited.items():
        if api.events.backend == "journal" and api.events.options:
            first = next(iter(api.events.options))
            where = f"Set {name}.events.backend, or the settings `journal`"
            raise ValueError(
                f"has {name}.events.{first}, which is not a setting of the backend journal. "
                f"{hint_of_listener(first).strip(' .') or where}"
            )
    return Sections(inherited)


_FEATURE = ValueKind(
    {"type": "enum", "cls": Feature, "members": list(ALL_FEATURES), "sub_type": "str"}, {"$ref": "#/$defs/Feature"}
)
_LIST_OF_FEATURES = {"type": "array", "items": _FEATURE.json}
_FEATURES = before(
    split,
    ValueKind({"type": "tuple", "items_schema": [_FEATURE.core], "variadic_item_index": 0}, _LIST_OF_FEATURES),
    json={"anyOf": [_LIST_OF_FEATURES, {"type": "string"}]},
)


class Config(OldForms):
    """
    All settings of one bus client. `load_config` makes one.

    `service_name` and `process_name` are templates: expand them (`names.expand`) when the engine starts, so that
    a forked child gets its own process id and random parts.
    """

    service_name: str = setting(NAME, names.UNNAMED, "Processes of one service share their listeners.")
    process_name: str = setting(NAME, "{friendly}", "Distinguishes the processes of a service.")
    features: tuple[Feature, ...] = setting(_FEATURES, ALL_FEATURES, "The features of a worker.")
    bus: BusSettings = setting(section(BusSettings), BusSettings.from_defaults())
    apis: dict[str, ApiSettings] = setting(
        after(_inherit_from_default, sections(ApiSettings)),
        {"default": ApiSettings.from_defaults()},
        "Per API; `default` has the defaults of all APIs.",
        validates_default=True,
    )
    plugins: dict[str, PluginSettings] = setting(
        sections(PluginSettings), {}, "Per plugin: enabled, and its own settings."
    )
    network: NetworkSettings = setting(section(NetworkSettings), NetworkSettings.from_defaults())
    discovery: DiscoverySettings = setting(section(DiscoverySettings), DiscoverySettings.from_defaults())
    security: SecuritySettings = setting(section(SecuritySettings), SecuritySettings.from_defaults())
    worker: WorkerSettings = setting(section(WorkerSettings), WorkerSettings.from_defaults())
    journal: JournalSettings = setting(section(JournalSettings), JournalSettings.from_defaults())

    _default_name: ServiceName | None = None

    def _checked(self) -> Self:
        """Refuse an open bus without a name."""
        if self.security.mode == "insecure" and self.bus.name is None:
            raise ValueError(
                "security.mode is insecure, which needs an explicit bus name, or strangers on the same network "
                "would share a bus by accident. Set LIGHTBUS_BUS or bus.name"
            )
        return self

    def api(self, name: str = "default") -> ApiSettings:
        """Return the settings of an API: a single look-up, since every call needs them."""
        apis = self.apis
        return apis[name] if name in apis else apis["default"]

    def plugin(self, plugin_name: str) -> PluginSettings:
        """Return `enabled` and the given settings of a plugin; its `from_config` has the defaults as arguments."""
        return self.plugins.get(plugin_name, PluginSettings())

    @property
    def bus_name(self) -> str:
        """Return the name of the bus: the configured one, else the key's, else the user's own on this host."""
        if self.bus.name is not None:
            return self.bus.name
        keys = self.security.keys
        return keys[0].bus if keys else names.default_bus_name()

    @property
    def default_name(self) -> ServiceName | None:
        """Return the default service name, and whether it identifies the service; None if a name is configured."""
        if self._default_name is None and "service_name" not in self.model_fields_set:
            return names.default_service_name(None)
        return self._default_name

    def with_default_name(self, name: ServiceName) -> Config:
        """Return these settings under a default service name."""
        copy = self.model_copy(update={"service_name": name.name})
        vars(copy)["_default_name"] = name
        return copy

    def written(self) -> dict[str, Any]:
        """Return the settings that were set, in the form of a file; defaults are left out."""
        values = self.model_dump(by_alias=True, exclude_unset=True)
        if self.default_name is not None:
            values.pop("service_name", None)
        return values

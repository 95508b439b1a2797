"""Gathers settings from file, environment and arguments, lays them over each other, and makes a Config of them.

Precedence: command line, then arguments of `create()`, then environment, then file, then defaults.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from ..exceptions import InvalidConfiguration
from .config import Config
from .features import Feature
from .layers import Layer, Merged, merge
from .names import default_service_name
from .problems import explain
from .sources import describe, read_settings
from .translation import translate

__all__ = ["ENVIRONMENT", "config_schema", "load_config"]

ENVIRONMENT: dict[str, tuple[str, ...]] = {
    "LIGHTBUS_SERVICE_NAME": ("service_name",),
    "LIGHTBUS_PROCESS_NAME": ("process_name",),
    "LIGHTBUS_FEATURES": ("features",),
    "LIGHTBUS_BUS": ("bus", "name"),
    "LIGHTBUS_LOG_LEVEL": ("bus", "log_level"),
    "LIGHTBUS_INTERFACES": ("network", "interfaces"),
    "LIGHTBUS_PEERS": ("discovery", "peers"),
    "LIGHTBUS_SECURITY": ("security", "mode"),
    "LIGHTBUS_BUS_KEY": ("security", "bus_key"),
    "LIGHTBUS_DATA_DIR": ("journal", "data_dir"),
}
"""Environment variable -> the setting it sets. `LIGHTBUS_CONFIG` names the file. An empty variable is not set."""


def load_config(
    config: Mapping[str, Any] | Config | str | os.PathLike[str] | None = None,
    *,
    config_file: str | os.PathLike[str] | None = None,
    service_name: str | None = None,
    process_name: str | None = None,
    features: Iterable[Feature | str] | None = None,
    overrides: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    module_file: str | None = None,
) -> Config:
    """
    Return the settings that hold.

    `config` is a mapping of settings (as the file would hold them), a Config, which stands for file and environment
    together, or the path or https URL of a file, as is `config_file`; without either, `LIGHTBUS_CONFIG` names
    the file. `overrides` are nested settings from the command line; None in them means "not given". `environ` is
    `os.environ` unless told. `module_file` is the module that called `create()`: its directory gives the service
    name where nobody chose one. Raises InvalidConfiguration, naming each faulty key and where it was written.
    """
    arguments = {"service_name": service_name, "process_name": process_name, "features": _listed(features)}
    merged = merge(
        [
            *_given(config, config_file, os.environ if environ is None else environ),
            Layer(origin="an argument of create()", values=arguments),
            Layer(origin="the command line", values=translate(overrides or {}, "the command line")),
        ]
    )
    built = _build(merged)
    if "service_name" in merged.values:
        return built
    if module_file is None and isinstance(config, Config) and config.default_name is not None:
        return built.with_default_name(config.default_name)
    return built.with_default_name(default_service_name(module_file))


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the configuration file: for editors, and `lightbus dumpconfigschema`."""
    schema = Config.model_json_schema(by_alias=True)
    schema["properties"]["peers"] = {
        **schema["$defs"]["DiscoverySettings"]["properties"]["peers"],
        "description": "Short for discovery.peers.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Lightbus configuration"}


def _listed(features: Iterable[Feature | str] | None) -> list[Feature | str] | str | None:
    return features if features is None or isinstance(features, str) else list(features)


def _given(
    config: Mapping[str, Any] | Config | str | os.PathLike[str] | None,
    config_file: str | os.PathLike[str] | None,
    environ: Mapping[str, str],
) -> list[Layer]:
    """Return the layers below the named arguments, the weakest first."""
    if config_file is not None and isinstance(config, Config | str | os.PathLike):
        raise InvalidConfiguration(
            f"Two whole configurations were given: config={config!r} and config_file={config_file!r}. Give one."
        )
    if isinstance(config, Config):
        return [Layer(origin="the Config given to create()", values=config.written())]
    if config is None or isinstance(config, Mapping):
        values = translate(config or {}, "the config argument")
        argument = [Layer(origin="the config argument", values=values)]
    elif isinstance(config, str | os.PathLike):
        config_file, argument = config, []
    else:
        raise InvalidConfiguration(
            f"config must be a mapping of settings, a Config, or the path of a file, not {type(config).__name__}."
        )
    return [*_file_layer(config_file or environ.get("LIGHTBUS_CONFIG")), *_environment_layers(environ), *argument]


def _file_layer(config_file: str | os.PathLike[str] | None) -> list[Layer]:
    if not config_file:
        return []
    origin = describe(config_file)
    return [Layer(origin=origin, values=translate(read_settings(config_file), origin))]


def _environment_layers(environ: Mapping[str, str]) -> list[Layer]:
    layers = []
    for variable, path in ENVIRONMENT.items():
        value: Any = environ.get(variable, "").strip()
        if value:
            for key in reversed(path):
                value = {key: value}
            layers.append(Layer(origin=f"{variable} in the environment", values=value))
    return layers


def _build(merged: Merged) -> Config:
    try:
        return Config.model_validate(merged.values)
    except ValidationError as error:
        # `from None`: the raw error repeats all of this in words for programmers, and shows values.
        raise explain(error, Config, merged) from None

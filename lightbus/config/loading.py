"""Read settings from file, environment and arguments, merge them, and make a Config of them.

Precedence: command line, then arguments of `create()`, then environment, then file, then defaults.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..exceptions import InvalidConfiguration
from .config import Config
from .environment import ENVIRONMENT, warn_of_unknown
from .features import Feature
from .keys import default_key_file, read_key_file
from .layers import Layer, Merged, merge
from .names import default_service_name
from .sources import describe, read_settings
from .surroundings import expand_home
from .translation import translate

__all__ = ["config_schema", "load_config"]

logger = logging.getLogger("lightbus.config")


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
    from_file: str | os.PathLike[str] | None = None,
    quiet: bool = False,
) -> Config:
    """
    Return the merged settings.

    `config` is a mapping of settings (in the form of the file), a Config, which replaces file and environment, or the
    path or https URL of a file, as is `config_file`; without either, `LIGHTBUS_CONFIG` names the file. `overrides` are
    nested settings from the command line; None in them means "not given". `environ` is by default `os.environ`.
    `module_file` is the file of the module that called `create()`: its directory is the default service name. The bus
    key is read from its file, unless it is set elsewhere or the mode needs none. `from_file` is the name of
    `config_file` in 1.x; `quiet` is accepted as in 1.x, without effect. Raises InvalidConfiguration, naming each faulty
    key and where it was set.
    """
    environ = os.environ if environ is None else environ
    config_file = _one_file(config_file, from_file)
    arguments = {"service_name": service_name, "process_name": process_name, "features": _listed(features)}
    layers = [
        *_given(config, config_file, environ),
        Layer(origin="an argument of create()", values=arguments),
        Layer(origin="the command line", values=translate(overrides or {}, "the command line")),
    ]
    merged = merge(layers)
    if not isinstance(config, Config):  # a Config has its key already
        merged = merge([*_key_layer(merged, environ), *layers])
    built = _build(merged)
    if "service_name" in merged.values:
        return built
    if module_file is None and isinstance(config, Config) and config.default_name is not None:
        return built.with_default_name(config.default_name)
    return built.with_default_name(default_service_name(module_file))


Config.loader = load_config


def config_schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of the configuration file: for editors, and `lightbus dumpconfigschema`."""
    from .json_forms import json_schema_of

    schema = json_schema_of(Config)
    words = [each.value for each in Feature]
    schema["$defs"]["Feature"] = {"title": "Feature", "description": Feature.__doc__, "enum": words, "type": "string"}
    schema["properties"]["peers"] = {
        **schema["$defs"]["DiscoverySettings"]["properties"]["peers"],
        "description": "Short for discovery.peers.",
    }
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "Lightbus configuration"}


def _one_file(
    config_file: str | os.PathLike[str] | None, from_file: str | os.PathLike[str] | None
) -> str | os.PathLike[str] | None:
    if config_file is not None and from_file is not None:
        raise InvalidConfiguration(
            f"Two files were given: config_file={config_file!r} and from_file={from_file!r}, which is its name in "
            "1.x. Give config_file only."
        )
    return from_file if config_file is None else config_file


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
    warn_of_unknown(environ)
    return [*_file_layer(config_file or environ.get("LIGHTBUS_CONFIG")), *_environment_layers(environ), *argument]


def _file_layer(config_file: str | os.PathLike[str] | None) -> list[Layer]:
    if not config_file:
        return []
    origin = describe(config_file)
    values = translate(read_settings(config_file), origin)
    if isinstance(values.get("security"), Mapping) and values["security"].get("bus_key"):
        _warn_if_readable(config_file, origin)
    return [Layer(origin=origin, values=values)]


def _warn_if_readable(config_file: str | os.PathLike[str], origin: str) -> None:
    path = expand_home(config_file)
    if path.is_file() and stat.S_IMODE(path.stat().st_mode) & 0o077:
        logger.warning(
            "%s holds the bus key, and others than its owner can read it: chmod 600 %s, or keep the key in a file of "
            "its own (lightbus keys init)",
            origin,
            path,
        )


def _environment_layers(environ: Mapping[str, str]) -> list[Layer]:
    layers = []
    for variable, path in ENVIRONMENT.items():
        value: Any = environ.get(variable, "").strip()
        if value:
            for key in reversed(path):
                value = {key: value}
            layers.append(Layer(origin=f"{variable} in the environment", values=value))
    return layers


def _key_layer(merged: Merged, environ: Mapping[str, str]) -> list[Layer]:
    """Return the layer of the key file, if the other settings need it: they say where the file is."""
    section = merged.values.get("security", {})
    if not isinstance(section, dict) or section.get("mode", "bus_key") != "bus_key":
        return []
    if "bus_key" in section:
        if isinstance(section["bus_key"], str) and not section["bus_key"].strip():
            origin = merged.origin_of(("security", "bus_key"))
            raise InvalidConfiguration(
                f"security.bus_key (from {origin}) is empty. Leave it out, or write a key there."
            )
        return []
    named, path = section.get("bus_key_file"), _key_file(merged, environ)
    keys = read_key_file(path) if path is not None else None
    if keys is None:
        if named is not None:
            origin = merged.origin_of(("security", "bus_key_file"))
            raise InvalidConfiguration(f"There is no key file {path} (security.bus_key_file, from {origin}).")
        return []
    return [Layer(origin=f"the key file {path}", values={"security": {"bus_key": [key.text for key in keys]}})]


def _key_file(merged: Merged, environ: Mapping[str, str]) -> Path | None:
    """Return the path of the key file, which need not exist; None for a user without a home."""
    section = merged.values.get("security", {})
    named = section.get("bus_key_file") if isinstance(section, dict) else None
    return expand_home(named) if isinstance(named, str | os.PathLike) else default_key_file(environ)


def key_origin(
    config_file: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> tuple[str, Path | None]:
    """
    Return the source of the bus key of a process with these settings: in words, and the file, which need not exist.

    The file is None if the key itself is in the settings or the environment, and if the user has no home.
    """
    environ = os.environ if environ is None else environ
    merged = merge(_given(None, config_file, environ))
    section = merged.values.get("security", {})
    if isinstance(section, dict) and section.get("bus_key"):
        return merged.origin_of(("security", "bus_key")) or "the settings", None
    path = _key_file(merged, environ)
    return "" if path is None else f"the file {path}", path


def _build(merged: Merged) -> Config:
    try:
        return Config.model_validate(merged.values)
    except ValueError as error:
        from pydantic_core import ValidationError  # already loaded at this point

        from .problems import explain

        if not isinstance(error, ValidationError):
            raise
        # `from None`: pydantic's own error repeats all of this for programmers, and shows values.
        raise explain(error, Config, merged) from None

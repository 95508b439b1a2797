"""The methods of Lightbus 1.x that make a Config and read from it; `load_config` and the sections replace them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Self, TypeVar

from ..exceptions import InvalidConfiguration
from .sections import Settings
from .sources import parse_settings

__all__ = ["OldForms", "Sections"]

_Section = TypeVar("_Section", bound=Settings)


class Sections(dict[str, _Section]):
    """The sections of the APIs by name. Callable, since 1.x has `config.apis()`."""

    def __call__(self) -> Self:
        """Return the sections themselves."""
        return self


class OldForms(Settings):
    """
    The methods of `Config` for programs written for 1.x.

    Attributes:
        loader: `load_config`, set by its module, which imports this one.

    """

    loader: ClassVar[Callable[..., Any]]

    @classmethod
    def load_dict(cls, config: Mapping[str, Any], set_defaults: bool = True) -> Self:
        """
        Return the settings of a mapping on top of the environment's. No file is read, not even LIGHTBUS_CONFIG.

        Without `set_defaults` the environment is ignored as well.
        """
        if not isinstance(config, Mapping):
            raise InvalidConfiguration(
                f"Config.load_dict() takes a mapping of settings, not {type(config).__name__}. "
                "A path is for Config.load_file(), text for Config.load_yaml() or Config.load_json()."
            )
        known = os.environ if set_defaults else {}
        environ = {name: value for name, value in known.items() if name != "LIGHTBUS_CONFIG"}
        made: Self = cls.loader(config, environ=environ)
        return made

    @classmethod
    def load_file(cls, file_path: str | os.PathLike[str]) -> Self:
        """Return the settings of a file or https URL, with the environment's on top."""
        made: Self = cls.loader(config_file=file_path)
        return made

    @classmethod
    def load_json(cls, json: str | bytes) -> Self:
        """Return the settings of a JSON text, as `load_dict` does."""
        return cls.load_dict(parse_settings(json, ".json"))

    @classmethod
    def load_yaml(cls, yaml: str | bytes) -> Self:
        """Return the settings of a YAML text, as `load_dict` does."""
        return cls.load_dict(parse_settings(yaml, ".yaml"))

    @classmethod
    def default(cls) -> Self:
        """Return the settings from the environment alone."""
        return cls.load_dict({})

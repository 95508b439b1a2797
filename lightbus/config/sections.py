"""The base class of configuration sections: settings with kind, default and description, validated by pydantic's core.

Only the core: pydantic itself, with a model for each section, would cost a process that only makes a call 10 MB of
memory and a third of the time to its first call. Even the core is used only for a value that is not plainly valid
(`plain_validation`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import GenericAlias
from typing import Any, ClassVar, NoReturn, Self, TypeAlias

from ..typing import JsonSchema
from .plain_validation import NeedsPydantic, validated

__all__ = [
    "CoreSchema",
    "Setting",
    "Settings",
    "ValueKind",
    "after",
    "before",
    "optional",
    "section",
    "sections",
    "setting",
]

CoreSchema: TypeAlias = dict[str, Any]
"""A schema of pydantic's core (`pydantic_core.core_schema`)."""


@dataclass(frozen=True, slots=True)
class ValueKind:
    """
    The kind of a value.

    Attributes:
        core: the schema by which the value is validated.
        json: the JSON Schema by which an editor checks it.
        section: the class of the section; None for a plain value.
        is_by_name: whether the value is a mapping from names to such sections.

    """

    core: CoreSchema
    json: JsonSchema
    section: type[Settings] | None = None
    is_by_name: bool = False


def before(function: Callable[[Any], Any], kind: ValueKind, *, json: JsonSchema | None = None) -> ValueKind:
    """Return a kind that calls `function` with the raw value first; `json` describes the raw form if it differs."""
    core = {"type": "function-before", "function": _called(function), "schema": kind.core}
    return replace(kind, core=core, json=json or kind.json)


def after(function: Callable[[Any], Any], kind: ValueKind) -> ValueKind:
    """Return a kind that calls `function` with the validated value; it raises ValueError for an invalid one."""
    return replace(kind, core={"type": "function-after", "function": _called(function), "schema": kind.core})


def optional(kind: ValueKind) -> ValueKind:
    """Return a kind that may be None, too."""
    return replace(kind, core={"type": "nullable", "schema": kind.core}, json={"anyOf": [kind.json, {"type": "null"}]})


def section(of: type[Settings]) -> ValueKind:
    """Return the kind of a nested section."""
    return ValueKind(of.core_schema(), {"$ref": f"#/$defs/{of.__name__}"}, of)


def sections(of: type[Settings]) -> ValueKind:
    """Return the kind of a mapping from any names to sections."""
    one = section(of)
    core = {"type": "dict", "keys_schema": {"type": "str"}, "values_schema": one.core}
    return ValueKind(core, {"type": "object", "additionalProperties": one.json}, of, is_by_name=True)


def _called(function: Callable[..., Any]) -> CoreSchema:
    return {"type": "no-info", "function": function}


@dataclass(frozen=True, slots=True)
class Setting:
    """
    The declaration of one setting.

    Attributes:
        kind: the kind of its value.
        default: its value if it is not set.
        description: for people.
        alias: its key, if that differs from the name of the attribute.
        validates_default: whether the default is validated, too.

    """

    kind: ValueKind
    default: Any
    description: str = ""
    alias: str | None = None
    validates_default: bool = False

    @property
    def annotation(self) -> Any:
        """The annotation, as fields of pydantic models have it: the section's class, or `dict[str, Section]`."""
        section, is_by_name = self.kind.section, self.kind.is_by_name
        return GenericAlias(dict, (str, section)) if is_by_name else section


def setting(
    kind: ValueKind, default: Any, description: str = "", *, key: str | None = None, validates_default: bool = False
) -> Any:
    """Declare a setting; see `Setting`."""
    return Setting(kind, default, description, key, validates_default)


class Settings:
    """A section of the configuration: immutable, with declared keys only, unless it `takes_more`."""

    # Set by pydantic's core.
    __slots__ = ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__")
    __pydantic_extra__: dict[str, Any] | None
    __pydantic_fields_set__: set[str]
    __pydantic_private__: None

    model_fields: ClassVar[Mapping[str, Setting]] = {}
    """The settings by the names of their attributes."""
    takes_more: ClassVar[bool] = False
    """Whether it accepts further keys."""
    _made_validator: ClassVar[Any] = None

    def __init_subclass__(cls) -> None:
        declared = {name: each for name, each in vars(cls).items() if isinstance(each, Setting)}
        for name in declared:
            delattr(cls, name)
        cls.model_fields = {**cls.model_fields, **declared}
        cls._made_validator = None

    def __init__(self, /, **values: Any) -> None:
        try:
            self.__setstate__(validated(self.core_schema(), values).__getstate__())
        except NeedsPydantic:
            self._validator().validate_python(values, self_instance=self)

    @classmethod
    def model_validate(cls, values: Any) -> Self:
        """Return the section made from a mapping. Raises pydantic's ValidationError."""
        made: Self
        try:
            made = validated(cls.core_schema(), values)
        except NeedsPydantic:
            made = cls._validator().validate_python(values)
        return made

    @classmethod
    def from_defaults(cls) -> Self:
        """Return the section with all defaults."""
        return cls.model_construct(set(), {name: each.default for name, each in cls.model_fields.items()})

    @classmethod
    def model_construct(cls, fields_set: set[str], values: Mapping[str, Any]) -> Self:
        """Return a section of valid values; `fields_set` names those that were set."""
        made = cls.__new__(cls)
        more = {name: value for name, value in values.items() if name not in cls.model_fields}
        made.__setstate__(({name: values[name] for name in cls.model_fields}, fields_set, more))
        return made

    def model_copy(self, *, update: Mapping[str, Any]) -> Self:
        """Return a copy with some values replaced, which are not validated."""
        copy = type(self).__new__(type(self))
        values, written, more = self.__getstate__()
        copy.__setstate__(({**values, **update}, {*written, *update}, dict(more or {})))
        return copy

    @property
    def model_fields_set(self) -> set[str]:
        """The names of the settings that were set."""
        return self.__pydantic_fields_set__

    @property
    def model_extra(self) -> dict[str, Any] | None:
        """The further keys with their values; None if the section accepts none."""
        return self.__pydantic_extra__

    def model_dump(self, *, by_alias: bool = False, exclude_unset: bool = False) -> dict[str, Any]:
        """Return plain dicts of the values; by their keys, and without defaults, if asked for."""

        def plain(value: Any) -> Any:
            if isinstance(value, Settings):
                return value.model_dump(by_alias=by_alias, exclude_unset=exclude_unset)
            return {name: plain(each) for name, each in value.items()} if isinstance(value, dict) else value

        values = {
            (by_alias and each.alias) or name: plain(getattr(self, name))
            for name, each in self.model_fields.items()
            if not exclude_unset or name in self.model_fields_set
        }
        return {**values, **(self.model_extra or {})}

    @classmethod
    def _validator(cls) -> Any:
        """Return the core's validator of this section, made at first use."""
        if cls._made_validator is None:
            from pydantic_core import SchemaValidator  # imported late: see the module's docstring

            # Inputs are hidden: they could put a key or a password into a traceback.
            cls._made_validator = SchemaValidator(cls.core_schema(), {"hide_input_in_errors": True})
        return cls._made_validator

    @classmethod
    def core_schema(cls) -> CoreSchema:
        """Return the schema of the section: `_prepared`, then its settings, then `_checked`."""
        behaviour = "allow" if cls.takes_more else "forbid"
        fields = {name: _field(each) for name, each in cls.model_fields.items()}
        core: CoreSchema = {
            "type": "model",
            "cls": cls,
            "schema": {"type": "model-fields", "fields": fields},
            "config": {"title": cls.__name__, "extra_fields_behavior": behaviour},
        }
        if cls._checked is not Settings._checked:
            core = {"type": "function-after", "function": _called(cls._checked), "schema": core}
        if "_prepared" in vars(cls):
            core = {"type": "function-before", "function": _called(cls._prepared), "schema": core}
        return core

    @classmethod
    def _prepared(cls, values: Any) -> Any:
        """Return the raw values, changed if need be, before they are validated."""
        return values

    def _checked(self) -> Self:
        """Return the section. Raises ValueError if its settings contradict each other."""
        return self

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return (vars(self), self.model_extra) == (vars(other), other.model_extra)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        values = {**{name: getattr(self, name) for name in self.model_fields}, **(self.model_extra or {})}
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in values.items())})"

    def __setattr__(self, name: str, value: Any) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be set: settings are frozen. See model_copy().")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{type(self).__name__}.{name} cannot be removed: settings are frozen.")

    def __getstate__(self) -> tuple[dict[str, Any], set[str], dict[str, Any] | None]:
        return vars(self), self.__pydantic_fields_set__, self.__pydantic_extra__

    def __setstate__(self, state: tuple[dict[str, Any], set[str], dict[str, Any] | None]) -> None:
        values, written, more = state
        vars(self).update(values)
        for name, value in (("fields_set", written), ("extra", more if self.takes_more else None), ("private", None)):
            object.__setattr__(self, f"__pydantic_{name}__", value)


def _field(declared: Setting) -> CoreSchema:
    default = {
        "type": "default",
        "schema": declared.kind.core,
        "default": declared.default,
        "copy_default": isinstance(declared.default, list | dict),
        "validate_default": declared.validates_default,
    }
    return {
        "type": "model-field",
        "schema": default,
        **({"validation_alias": declared.alias} if declared.alias else {}),
    }

"""The declarations of an Api as values: its options, procedures and events, and the rules for their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias, get_args

from ..exceptions import InvalidApiEventConfiguration, InvalidName, MisconfiguredApiOptions, did_you_mean
from ..keywords import unknown_keywords_raise
from .parameters import Parameter, WildcardParameter, annotation_text
from .scopes import NO_SCOPE, Scope
from .signature import Signature

__all__ = ["ApiMeta", "DeliveryMode", "Event", "Procedure", "check_api_name", "check_name"]

DeliveryMode: TypeAlias = Literal["at_least_once", "best_effort"]
"""The guarantee of an event: stored until every group has handled it, or sent once to the present listeners."""

# Topics consist of names with NUL between them, and paths and file names contain names: hence so few characters.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_API_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(\.[A-Za-z_][A-Za-z0-9_-]*)*")


_OPTIONS = ("name", "internal", "version")
"""The options in a class Meta that we use; others belong to the program."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiMeta:
    """
    The options of an Api, from its `class Meta`.

    Attributes:
        name: its name on the bus; dots make a path: "shop.orders".
        internal: whether lists for people leave it out.
        version: the version of the Api; events carry it.

    Further options of a class are attributes, too: `api.meta.owner`.

    """

    name: str
    internal: bool = False
    version: int = 1
    others: Mapping[str, Any] = field(default_factory=dict, compare=False)
    """Further attributes of the class Meta, by name."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and name != "others" and name in self.others:
            return self.others[name]
        raise AttributeError(f"The class Meta of the Api '{self.name}' has no '{name}'.")

    def __post_init__(self) -> None:
        check_api_name(self.name)
        if not _is_version(self.version):
            raise MisconfiguredApiOptions(f"The API '{self.name}' has version={self.version!r}. Make it an integer.")

    @classmethod
    def of(cls, api: type) -> ApiMeta:
        """
        Return the options of an Api class.

        Raises:
            MisconfiguredApiOptions: it has no `class Meta`, or that lacks a name or has an unknown option.
            InvalidName: the name cannot be used.

        """
        declared = getattr(api, "Meta", None)
        if declared is not None and not isinstance(declared, type):
            raise MisconfiguredApiOptions(f"{api.__qualname__}.Meta is {declared!r:.100}. Write it as `class Meta:`.")
        options = {name: getattr(declared, name) for name in dir(declared) if not name.startswith("_")}
        others = {name: options.pop(name) for name in options.keys() - _OPTIONS}
        for unknown in others:  # first, since it may be a misspelt `name`
            if near := did_you_mean(unknown, _OPTIONS):
                raise MisconfiguredApiOptions(
                    f"{api.__qualname__}.Meta has an unknown option '{unknown}'.{near} Known: {', '.join(_OPTIONS)}."
                )
        if "name" not in options:
            raise MisconfiguredApiOptions(
                f"The Api class {api.__qualname__} has no name. "
                f'Add to it: `class Meta: name = "{api.__name__.removesuffix("Api").lower() or "my_api"}"`.'
            )
        return cls(**options, others=others)


@dataclass(frozen=True, slots=True, kw_only=True)
class Procedure:
    """
    A procedure of an Api instance.

    Attributes:
        api_name: the Api it belongs to.
        name: its name on the bus.
        function: the bound method.
        is_async: whether it is an `async def`.
        signature: its parameters and result.

    """

    api_name: str
    name: str
    function: Callable[..., Any]
    is_async: bool
    signature: Signature

    def __str__(self) -> str:
        return f"{self.api_name}.{self.signature.describe()}"


class Event:
    """
    An event of an Api, declared as a class attribute: `user_registered = Event(["username", Parameter("age", int)])`.

    Attributes:
        parameters: its parameters, in order.
        key: the parameter whose value determines the partition: events with one key are first handled in order.
        delivery: "at_least_once", or "best_effort" for events that are worthless later.
        version: the version of the event; by default that of its Api.
        name, api_name: its name and Api, once it belongs to one.
        signature: its parameters as a Signature.

    Raises:
        InvalidApiEventConfiguration: parameters, key or delivery are invalid.

    """

    __slots__ = ("_own_version", "api_name", "delivery", "key", "name", "parameters", "signature", "version")

    @unknown_keywords_raise(InvalidApiEventConfiguration)
    def __init__(
        self,
        parameters: Iterable[str | Parameter] = (),
        *,
        key: str | None = None,
        delivery: DeliveryMode = "at_least_once",
        version: int | None = None,
    ) -> None:
        self.parameters = _event_parameters(parameters)
        self.key = key
        self.delivery: DeliveryMode = delivery
        self._own_version = version
        self.version = 1 if version is None else version
        self._belong("", "event")
        _check_event(self)

    def bound(self, meta: ApiMeta, name: str, scope: Scope = NO_SCOPE) -> Event:
        """Return the event as one of the Api with these options; several Apis may share the declaration itself."""
        version = meta.version if self._own_version is None else self._own_version
        parameters = [replace(each, annotation=scope.bound(each.annotation)) for each in self.parameters]
        event = Event(parameters, key=self.key, delivery=self.delivery, version=version)
        event._belong(meta.name, name)
        return event

    def __set_name__(self, owner: type, name: str) -> None:
        self._belong(getattr(getattr(owner, "Meta", None), "name", ""), name)

    def _belong(self, api_name: str, name: str) -> None:
        self.api_name = api_name
        self.name = name
        self.signature = Signature(kind="Event", api_name=api_name, name=name, parameters=self.parameters)

    def __repr__(self) -> str:
        return f"<Event {self.api_name}.{self.signature.describe()}>"


def check_api_name(name: Any) -> None:
    """
    Check the name of an Api.

    Raises:
        InvalidName: it has other characters than topics and paths allow, or is reserved.

    """
    if not isinstance(name, str) or not _API_NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} cannot be the name of an Api. Use letters, digits, '_' and '-', with dots between parts."
        )
    if name.split(".")[0] == "default":
        raise InvalidName(f"The name '{name}' is reserved: 'default' holds the settings of all Apis. Choose another.")


def check_name(name: str, *, of: str) -> None:
    """
    Check the name of a procedure or an event.

    Arguments:
        name: its name on the bus.
        of: the class it belongs to, for the error.

    Raises:
        InvalidName: it has other characters than topics and paths allow.

    """
    if not _NAME.fullmatch(name):
        raise InvalidName(
            f"{name!r} of {of} cannot be the name of a procedure or an event. Use the letters a to z, digits and '_'."
        )


def _event_parameters(parameters: Iterable[str | Parameter]) -> tuple[Parameter, ...]:
    if isinstance(parameters, (str, Parameter)) or not isinstance(parameters, Iterable):
        raise InvalidApiEventConfiguration(
            f"Event({parameters!r}) wants a list of parameters. Write Event([{parameters!r}])."
        )
    if isinstance(parameters, (Mapping, set, frozenset)):
        raise InvalidApiEventConfiguration(
            f"Event({parameters!r:.100}) wants a list, whose parameters have an order and say their types themselves. "
            f"Write Event([{', '.join(_as_written(parameters))}])."
        )
    made = tuple(Parameter(each) if isinstance(each, str) else each for each in parameters)
    for each in made:
        if not isinstance(each, Parameter):
            raise InvalidApiEventConfiguration(
                f"{each!r} is not a parameter of an event. Write its name, or Parameter(name, type)."
            )
    names = [each.name for each in made]
    if len(set(names)) < len(names) or sum(isinstance(each, WildcardParameter) for each in made) > 1:
        raise InvalidApiEventConfiguration(f"Event({names}) has two parameters of one name. Rename one of them.")
    return made


def _as_written(parameters: Mapping[Any, Any] | set[Any] | frozenset[Any]) -> list[str]:
    if isinstance(parameters, Mapping):
        return [f"Parameter({name!r}, {annotation_text(each)})" for name, each in parameters.items()]
    return sorted(map(repr, parameters))


def _check_event(event: Event) -> None:
    if event.delivery not in get_args(DeliveryMode):
        raise InvalidApiEventConfiguration(
            f"An event has delivery={event.delivery!r}. Choose one of {', '.join(get_args(DeliveryMode))}."
        )
    names = [each.name for each in event.signature.parameters]
    if event.key is not None and event.key not in names:
        raise InvalidApiEventConfiguration(
            f"An event has key={event.key!r}, which is none of its parameters.{did_you_mean(str(event.key), names)} "
            f"There are: {', '.join(names) or 'none'}."
        )
    if not _is_version(event.version):
        raise InvalidApiEventConfiguration(f"An event has version={event.version!r}. Make it an integer.")


def _is_version(version: Any) -> bool:
    return isinstance(version, int) and not isinstance(version, bool)

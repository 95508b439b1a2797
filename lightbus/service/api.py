"""Api classes, which a service offers, and the registry of this process's Apis.

An Api instance is read once, when it is created; serving a call is a dict lookup, without reflection. Only methods that
the user's own classes define become procedures: nothing else of an instance can be called remotely.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType, MappingProxyType, MethodType
from typing import Any, Self

from ..exceptions import (
    EventNotFound,
    InvalidApiEventConfiguration,
    InvalidApiRegistryEntry,
    InvalidName,
    UnknownApi,
    UnknownProcedure,
    did_you_mean,
)
from ..phrases import with_article
from .declared import ApiMeta, DeliveryMode, Event, Procedure, check_name
from .exposing import bound_method, is_method, own_members, why_left_out
from .forks import CHANGING
from .parameters import Parameter, WildcardParameter
from .scopes import Scope
from .signature import Signature

__all__ = [
    "Api",
    "ApiMeta",
    "ApiRegistry",
    "DeliveryMode",
    "Event",
    "Parameter",
    "Procedure",
    "WildcardParameter",
    "left_out",
]


logger = logging.getLogger("lightbus.client")


class Api:
    """
    Base class of the Apis that a service offers.

        class AuthApi(Api):
            user_registered = Event(["username", "email"])

            class Meta:
                name = "auth"

            def check_password(self, username: str, password: str) -> bool:
                return password == "secret"

    Every public method that the class (or a user's base class or mixin) defines is a procedure, also if it is
    decorated; methods of a library's base class (`UserDict`, `Thread`) are not. Every `Event` attribute is an event.
    A warning at registration names members that look like methods and cannot be served.
    Register an instance: `bus.client.register_api(AuthApi())`.

    Raises:
        MisconfiguredApiOptions: it has no `class Meta`, or that lacks a name or has an unknown option.
        InvalidName: a name cannot be used on the bus.

    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in _OWN_NAMES & vars(cls).keys():
            raise InvalidName(f"{cls.__qualname__}.{name} {_TAKEN}")
        if "Meta" in vars(cls):  # a user's base class may leave the name to its subclasses
            ApiMeta.of(cls)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Read the declarations of the class here, not in __init__, which subclasses override without calling it."""
        api = super().__new__(cls)
        _ = api._declared
        return api

    @functools.cached_property
    def _declared(self) -> _Declared:
        """Its declarations; read again if a base class has cleared the instance, as pydantic's `__init__` does."""
        return _read(self)

    def __getstate__(self) -> Any:
        """Leave out the declarations: a copy, also one in another process (`pool.submit(self.work)`), reads its own."""
        state: Any = super().__getstate__()
        if isinstance(state, tuple):  # of a class with slots
            return _undeclared(state[0]), *state[1:]
        return _undeclared(state)

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self).__qualname__
        if isinstance(value, Event):
            raise InvalidApiEventConfiguration(
                f"{kind}: self.{name} = Event(...) declares nothing: what an Api has is read from its class. "
                f"Write {name} = Event(...) in the class, beside its methods."
            )
        if name in _OWN_NAMES:
            raise InvalidName(
                f"{kind}: self.{name} = ... would hide what every Api has by this name. Give your attribute another "
                f"one: self._{name} = ..."
            )
        super().__setattr__(name, value)

    @property
    def meta(self) -> ApiMeta:
        """The options of its `class Meta`."""
        return self._declared.meta

    @property
    def procedures(self) -> Mapping[str, Procedure]:
        """Its procedures by name, in the order of their definition."""
        return self._declared.procedures

    @property
    def events(self) -> Mapping[str, Event]:
        """Its events by name, in the order of their definition."""
        return self._declared.events

    def get_procedure(self, name: str) -> Procedure:
        """
        Return the procedure of this name.

        Raises:
            UnknownProcedure: there is none; the message gives similar names and all existing ones.

        """
        procedure = self._declared.procedures.get(name)
        if procedure is None:
            if name in self.events:
                raise UnknownProcedure(f"{self.meta.name}.{name} is no procedure: '{name}' is an event: fire it.")
            raise UnknownProcedure(_unknown("procedure", name, self, self.procedures))
        return procedure

    def get_event(self, name: str) -> Event:
        """
        Return the event of this name.

        Raises:
            EventNotFound: there is none; the message gives similar names and all existing ones.

        """
        event = self._declared.events.get(name)
        if event is None:
            if name in self.procedures:
                raise EventNotFound(f"{self.meta.name}.{name} is no event: '{name}' is a procedure: call it.")
            raise EventNotFound(_unknown("event", name, self, self.events))
        return event

    def __repr__(self) -> str:
        declared = self._declared
        return f"<Api {declared.meta.name}: {len(declared.procedures)} procedures, {len(declared.events)} events>"


class ApiRegistry:
    """
    The Apis that this process has registered, by name.

    Changes replace the dict as a whole, so that other threads may read it at any time.

    Arguments:
        on_removed: called with the name of each removed Api.

    """

    def __init__(self, on_removed: Callable[[str], None] = lambda name: None) -> None:
        self.by_name: dict[str, Api] = {}
        """The Apis by name; a new dict after each change."""
        self._on_removed = on_removed

    def add(self, api: Api) -> None:
        """
        Add an Api. It replaces one of the same name, with a warning if that is of another class.

        Raises:
            InvalidApiRegistryEntry: it is not an instance of an Api.

        """
        if isinstance(api, type) and issubclass(api, Api):
            raise InvalidApiRegistryEntry(
                f"{api.__qualname__} is a class. Register an instance: bus.client.register_api({api.__name__}())."
            )
        if not isinstance(api, Api):
            what = f"The class '{api.__qualname__}'" if isinstance(api, type) else f"An instance of '{_name_of(api)}'"
            raise InvalidApiRegistryEntry(
                f"{what} is no Api. Make a class that inherits from lightbus.Api, and register an instance of it."
            )
        with CHANGING:
            other = self.by_name.get(api.meta.name)
            self.by_name = {**self.by_name, api.meta.name: api}
        if other is not None and _name_of(other) != _name_of(api):
            logger.warning(
                "The API '%s' is an instance of '%s' from now on, and no longer of '%s': both have that name. Rename "
                "one of the two if both are wanted",
                api.meta.name,
                _name_of(api),
                _name_of(other),
            )

    def get(self, name: str) -> Api:
        """
        Return the Api of this name.

        Raises:
            UnknownApi: none of this name is registered here; the message gives similar names and all existing ones.

        """
        api = self.by_name.get(name)
        if api is None:
            raise UnknownApi(
                f"No Api named '{name}' is registered in this process.{did_you_mean(name, self.by_name)} "
                f"Registered: {', '.join(self.by_name) or 'none'}. Add it with bus.client.register_api()."
            )
        return api

    def find(self, name: str) -> Api | None:
        """Return the Api of this name, or None."""
        return self.by_name.get(name)

    def remove(self, name: str) -> None:
        """
        Remove the Api of this name: a running worker stops advertising it.

        Raises:
            UnknownApi: none of this name is registered here.

        """
        with CHANGING:
            self.get(name)
            self.by_name = {known: api for known, api in self.by_name.items() if known != name}
        self._on_removed(name)

    def public(self) -> list[Api]:
        """Return the Apis that are not internal."""
        return [api for api in self.by_name.values() if not api.meta.internal]

    def internal(self) -> list[Api]:
        """Return the internal Apis."""
        return [api for api in self.by_name.values() if api.meta.internal]

    def all(self) -> list[Api]:
        """Return all Apis, in the order in which they were added."""
        return list(self.by_name.values())

    def names(self) -> list[str]:
        """Return the names of all Apis, in the order in which they were added."""
        return list(self.by_name)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Declared:
    meta: ApiMeta
    procedures: Mapping[str, Procedure]
    events: Mapping[str, Event]
    left_out: Mapping[str, str]


# Attributes of Api itself. A procedure of such a name would hide them.
_OWN_NAMES = frozenset({"meta", "procedures", "events", "get_procedure", "get_event"})


def left_out(api: Api) -> Mapping[str, str]:
    """Return the public members that look like methods and are not procedures: name -> reason."""
    own = getattr(api, "__dict__", {})  # a class with slots has none
    assigned = {
        name: "it was given to this instance, and what an Api offers is read from its class"
        for name in own
        if not name.startswith("_") and isinstance(own[name], (FunctionType, MethodType, functools.partial))
    }
    return {**api._declared.left_out, **assigned}


def _undeclared(state: Any) -> Any:
    return {name: value for name, value in state.items() if name != "_declared"} if isinstance(state, dict) else state


def _read(api: Api) -> _Declared:
    meta = ApiMeta.of(type(api))
    members = _public_members(type(api))
    procedures: dict[str, Procedure] = {}
    reasons = {name: why for name, member in members.items() if (why := why_left_out(member)) is not None}
    for name, member in members.items():
        if is_method(member):
            try:
                procedures[name] = _procedure(meta, name, bound_method(api, name, member), type(api))
            except TypeError as error:
                reasons[name] = f"it is {with_article(type(member).__name__)} that cannot be called by name: {error}"
    events = {
        name: member.bound(meta, name, Scope.of_member(type(api), name))
        for name, member in members.items()
        if isinstance(member, Event)
    }
    return _Declared(
        meta=meta,
        procedures=MappingProxyType(procedures),
        events=MappingProxyType(events),
        left_out=MappingProxyType(reasons),
    )


def _public_members(api: type[Api]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for name, member, owner in own_members(api, Api):
        _check_member(name, member, members.get(name), owner)
        members.setdefault(name, member)
    return members


def _check_member(name: str, member: Any, override: Any, owner: type) -> None:
    if isinstance(member, type) and issubclass(member, Event):
        raise InvalidApiEventConfiguration(
            f"{owner.__qualname__}.{name} is the class Event and declares nothing. Write {name} = Event([...])."
        )
    if name in _OWN_NAMES:
        raise InvalidName(f"{owner.__qualname__}.{name} {_TAKEN}")
    if is_method(member) or isinstance(member, Event):
        check_name(name, of=owner.__qualname__)
    if (is_method(member) and isinstance(override, Event)) or (isinstance(member, Event) and is_method(override)):
        raise InvalidName(f"{owner.__qualname__}.{name} is an event in one class and a method in another. Rename one.")


_TAKEN = "hides what every Api has by this name. Rename it."


def _procedure(meta: ApiMeta, name: str, function: Callable[..., Any], api: type[Api]) -> Procedure:
    is_shared = meta.internal and isinstance(function, MethodType)
    return Procedure(
        api_name=meta.name,
        name=name,
        function=function,
        is_async=inspect.iscoroutinefunction(function),
        signature=(_shared_signature if is_shared else _signature)(meta.name, name, function, api),
    )


def _signature(api_name: str, name: str, function: Callable[..., Any], api: type[Api]) -> Signature:
    return Signature.of_function(function, api_name=api_name, name=name, scope=Scope.of_member(api, name))


def _shared_signature(api_name: str, name: str, method: Any, api: Any) -> Signature:
    return _kept_signature(api_name, name, method.__func__, api)


@functools.lru_cache(maxsize=128)
def _kept_signature(api_name: str, name: str, function: Any, api: type[Api]) -> Signature:
    """Return the signature of a procedure that each client has an instance of: to read it takes the longest."""
    return _signature(api_name, name, function.__get__(object(), api), api)


def _name_of(value: Any) -> str:
    return type(value).__qualname__.rpartition("<locals>.")[2]


def _unknown(kind: str, name: str, api: Api, known: Mapping[str, Any]) -> str:
    near = did_you_mean(name, known)
    there = ", ".join(known) or "none"
    text = f"The API '{api.meta.name}' has no {kind} '{name}'.{near} It has: {there}."
    if near:
        return text
    # The author of `bus.orders.order_placed()` may have meant an event.
    other, others = ("event", api.events) if kind == "procedure" else ("procedure", api.procedures)
    near = did_you_mean(name, others)
    return f"{text} It has {with_article(other)} of a similar name.{near}" if near else text

"""Hooks: functions of the user and methods of plugins, called at fixed points in the life of a bus and of a message.

This module defines the hooks, their arguments, and the order of functions. It knows neither plugins (the plugin loader
adds their methods) nor threads (the code that runs a hook decides how functions are called).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, overload

from ..exceptions import InvalidDeclaration, did_you_mean
from .execution import is_generator
from .forks import CHANGING
from .wrapping import NOTHING, RunHook, Wrapping, call_directly

__all__ = ["HOOKS", "Call", "CallBlocking", "HookDecorator", "HookRegistry", "decorator"]

F = TypeVar("F", bound=Callable[..., Any])

HOOKS: Mapping[str, tuple[str, ...]] = {
    "on_start": ("client",),
    "on_stop": ("client",),
    "before_worker_start": ("client",),
    "after_worker_started": ("client",),
    "after_worker_stopped": ("client",),
    "before_rpc_call": ("client", "rpc_message"),
    "after_rpc_call": ("client", "rpc_message", "result_message"),
    "before_rpc_execution": ("client", "rpc_message"),
    "after_rpc_execution": ("client", "rpc_message", "result_message"),
    "before_event_sent": ("client", "event_message"),
    "after_event_sent": ("client", "event_message"),
    "before_event_execution": ("client", "event_message", "listener_name"),
    "after_event_execution": ("client", "event_message", "listener_name"),
    "on_events_lost": ("client", "api_name", "event_name", "group", "count"),
    "around_rpc_call": ("client", "rpc_message"),
    "around_rpc_execution": ("client", "rpc_message"),
    "around_event_sent": ("client", "event_message"),
    "around_event_execution": ("client", "event_message", "listener_name"),
}
"""
Hook name -> its arguments. A function gets those that it names; with `**kwargs` it gets all.

Those named `around_` return a context manager (`wrapping.py`).
"""

_BEFORE_PLUGINS, _PLUGIN, _AFTER_PLUGINS = range(3)


class Call(Protocol):
    """Calls functions from asynchronous code, in their context, and a plain `def` in a thread."""

    def __call__(
        self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], /, *, on_loop: bool
    ) -> Awaitable[Any]:
        """Call `function`, await its result if awaitable, and return the final result."""
        ...


CallBlocking = Callable[[Callable[..., Any], Sequence[Any], Mapping[str, Any]], Any]
"""Calls functions in a thread, with the same result."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _HookEntry:
    """One function of one hook. `wants` are the arguments it takes, `place` is its place in the order."""

    function: Callable[..., Any]
    wants: tuple[str, ...]
    is_async: bool
    place: tuple[int, int]

    def arguments(self, details: Mapping[str, Any]) -> dict[str, Any]:
        return {name: details[name] for name in self.wants}


class HookRegistry:
    """
    The hook functions of one bus client.

    An exception in a hook is not caught here: it reaches the code that runs the hook, and the functions after it
    are not called. So a `before_rpc_call` hook can refuse a call by raising.

    Functions may be added and removed from any thread (under `CHANGING`). Running needs no lock: each change
    replaces the tuple.
    """

    def __init__(self) -> None:
        self._entries: dict[str, tuple[_HookEntry, ...]] = {}  # only hooks that have a function: `has` is one lookup
        self.subjects: frozenset[str] = frozenset()
        """The subjects with a hook before, after or around them: "rpc_call", "event_sent", ... Replaced as a whole."""

    def add(self, name: str, function: Callable[..., Any], *, before_plugins: bool = False) -> None:
        """
        Call `function` at hook `name`, after the plugins unless `before_plugins`; in the order of adding.

        It may be sync or async, and take no argument, any of the hook's arguments (`HOOKS`) by name, or `**kwargs`.
        Raises InvalidDeclaration for an unknown hook, and for a function with an argument that the hook does not have.
        """
        self._add(name, function, (_BEFORE_PLUGINS if before_plugins else _AFTER_PLUGINS, 0))

    def register_callback(self, name: str, fn: Callable[..., Any], before_plugins: bool = False) -> None:
        """Call `fn` at hook `name`: the name of `add` in Lightbus 1.x."""
        self.add(name, fn, before_plugins=before_plugins)

    def add_for_plugin(self, name: str, method: Callable[..., Any], *, priority: int) -> None:
        """Call a plugin's `method` at hook `name`; plugins with a smaller `priority` come first."""
        self._add(name, method, (_PLUGIN, priority))

    def remove(self, name: str, function: Callable[..., Any]) -> None:
        """Stop calling `function`. Raises InvalidDeclaration if it is not registered."""
        with CHANGING:
            entries = self._entries.get(name, ())
            kept = tuple(entry for entry in entries if entry.function != function)
            if len(kept) == len(entries):
                raise InvalidDeclaration(
                    f"{_label(function)} is not registered as {name} hook, so it cannot be removed."
                )
            self._put(name, kept)

    def has(self, name: str) -> bool:
        """Return whether a hook has functions. Checked for every message, to prepare nothing without need."""
        return name in self._entries

    def is_about(self, subject: str) -> bool:
        """Return whether a function is called before, after or around a subject: "rpc_call", "event_sent", ..."""
        return subject in self.subjects

    def functions(self, name: str) -> tuple[Callable[..., Any], ...]:
        """Return the functions to call: first those before the plugins, then plugins by priority, then the others."""
        return tuple(entry.function for entry in self._entries.get(name, ()))

    async def run(self, name: str, call: Call, /, **details: Any) -> None:
        """Call the functions one after another; `call` says how. If one raises, the rest is not called."""
        for function in self.each(name, call, **details):
            await function

    def each(self, name: str, call: Call, /, **details: Any) -> Iterator[Coroutine[Any, Any, None]]:
        """Yield, for each function, a coroutine that calls it; `call` says how."""

        async def run(entry: _HookEntry) -> None:
            _check_ran(entry, await call(entry.function, (), entry.arguments(details), on_loop=entry.is_async))

        for entry in self._entries.get(name, ()):
            yield run(entry)

    def run_blocking(self, name: str, call: CallBlocking, /, **details: Any) -> None:
        """Call the functions in this thread, in which no loop runs: blocking channels make sure of that."""
        for entry in self._entries.get(name, ()):
            _check_ran(entry, call(entry.function, (), entry.arguments(details)))

    def around(self, name: str, run: RunHook = call_directly, /, **details: Any) -> AbstractContextManager[None]:
        """Return a context manager for all wrapping functions; `run` calls the functions in their context."""
        entries = self._entries.get(name)
        if entries is None:
            return NOTHING
        return Wrapping([(entry.function, entry.arguments(details)) for entry in entries], run)

    def _add(self, name: str, function: Callable[..., Any], place: tuple[int, int]) -> None:
        entry = _HookEntry(function=function, wants=_wants(name, function), is_async=_is_async(function), place=place)
        with CHANGING:
            entries = (*self._entries.get(name, ()), entry)
            self._put(name, tuple(sorted(entries, key=lambda each: each.place)))  # stable: adding order holds

    def _put(self, name: str, entries: tuple[_HookEntry, ...]) -> None:
        """Replace the functions of a hook. Only under `CHANGING`."""
        if entries:
            self._entries[name] = entries
        else:
            self._entries.pop(name, None)
        self.subjects = frozenset(each.partition("_")[2] for each in self._entries)


def _check_ran(entry: _HookEntry, value: Any) -> None:
    if inspect.isgenerator(value) or inspect.isasyncgen(value):  # inside of a decorator that is not a generator
        raise _runs_nothing(entry.function)


def _runs_nothing(function: Callable[..., Any]) -> InvalidDeclaration:
    return InvalidDeclaration(
        f"The hook {_label(function)} has a `yield` in it, so that calling it runs nothing of it. "
        "Write it as a plain function."
    )


def _is_async(function: Callable[..., Any]) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _wants(name: str, function: Callable[..., Any]) -> tuple[str, ...]:
    """Return the arguments of hook `name` that `function` takes. Computed once, at registration."""
    if name not in HOOKS:
        raise InvalidDeclaration(
            f"There is no hook {name!r}.{did_you_mean(name, HOOKS)} There are: {', '.join(HOOKS)}."
        )
    if not callable(function):
        raise InvalidDeclaration(f"The {name} hook must be a function, not {type(function).__name__}.")
    if name.startswith("around_"):
        _check_can_wrap(name, function)
    if is_generator(function):
        raise _runs_nothing(function)
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a C function without a signature
        return ()
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        available = HOOKS[name]
    else:
        by_name = {each.name for each in parameters if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)}
        available = tuple(detail for detail in HOOKS[name] if detail in by_name)
    for parameter in parameters:
        _check_injectable(name, function, parameter, available)
    return available


def _check_can_wrap(name: str, function: Callable[..., Any]) -> None:
    if is_generator(function) or _is_async(function):
        raise InvalidDeclaration(
            f"The {name} hook {_label(function)} has to return a context manager: write it as a plain function with "
            "one `yield` where the thing itself happens, and @contextlib.contextmanager right above its `def`."
        )


def _check_injectable(
    name: str, function: Callable[..., Any], parameter: inspect.Parameter, available: tuple[str, ...]
) -> None:
    if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) or parameter.default is not parameter.empty:
        return
    if parameter.kind is parameter.POSITIONAL_ONLY or parameter.name not in available:
        raise InvalidDeclaration(
            f"The {name} hook {_label(function)} wants an argument '{parameter.name}', which it will not be given. "
            f"Arguments are matched by name; this hook is told: {', '.join(HOOKS[name])}."
        )


def _label(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__qualname__', repr(function))}()"


class HookDecorator(Protocol):
    """`bus.client.on_start` and its like: `@hook`, `@hook()`, `@hook(before_plugins=True)` and `hook(function)`."""

    @overload
    def __call__(self, function: F, *, before_plugins: bool = ...) -> F: ...

    @overload
    def __call__(self, function: None = ..., *, before_plugins: bool = ...) -> Callable[[F], F]: ...


def decorator(registry: HookRegistry, name: str) -> HookDecorator:
    """Return the decorator that adds functions to hook `name`. All of its forms return the function unchanged."""

    def hook(function: Any = None, *, before_plugins: bool = False) -> Any:
        def register(decorated: F) -> F:
            registry.add(name, decorated, before_plugins=before_plugins)
            return decorated

        return register if function is None else register(function)

    hook.__name__ = hook.__qualname__ = name
    return hook

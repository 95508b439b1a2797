"""Odd exceptions of every kind that a handler may raise, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["ODD"]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


class Exiting(Exception):
    """An exception whose text ends the process."""

    def __str__(self) -> str:
        raise SystemExit(3)

    __repr__ = __str__


class NoText(Exception):
    def __str__(self) -> str:
        return 5  # type: ignore[return-value]


class OwnArgs(Exception):
    @property
    def args(self) -> Any:  # type: ignore[override]
        raise RuntimeError("no args")


class NumberArgs(Exception):
    args = 5  # type: ignore[assignment]


class NeedsTwo(Exception):
    """An exception that cannot be made again from its args, as pickle would."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__("both")
        self.lock = object()


class Unreadable(type):
    def __getattribute__(cls, name: str) -> Any:
        raise RuntimeError(f"no {name}")


class Hidden(Exception, metaclass=Unreadable):
    pass


class Liar(ValueError):
    @property
    def __class__(self) -> Any:
        raise RuntimeError("no class")

    @__class__.setter
    def __class__(self, value: Any) -> None:
        pass


class Value:
    def __to_bus__(self) -> Any:
        raise KeyboardInterrupt

    def __repr__(self) -> str:
        raise SystemExit(4)


def circle() -> Exception:
    one, other = ValueError("one"), ValueError("other")
    one.__cause__, other.__cause__ = other, one
    one.args = (one, other)
    return one


def chain() -> Exception:
    error = first = ValueError("0")
    for number in range(1, 3000):
        error.__cause__ = ValueError(str(number))
        error = error.__cause__
    return first


def groups() -> Exception:
    error: Exception = ValueError("innermost")
    for _ in range(500):
        error = ExceptionGroup("group", [error])
    return error


def nested() -> Exception:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    return ValueError(value)


def itself() -> Exception:
    value: list[Any] = []
    value.append(value)
    return ValueError(value)


ODD: dict[str, Callable[[], BaseException]] = {
    "plain": lambda: ValueError("oh"),
    "no text": Unprintable,
    "a text that exits": lambda: Exiting("x"),
    "a text that is none": NoText,
    "args that raise": OwnArgs,
    "args that are none": NumberArgs,
    "args it cannot be made of": lambda: NeedsTwo(1, 2),
    "args that cannot be sent": lambda: ValueError(object(), lambda: None),
    "args that exit": lambda: ValueError(Value()),
    "huge args": lambda: ValueError("x" * 3_000_000, *range(10_000)),
    "deep args": nested,
    "args that hold themselves": itself,
    "surrogates": lambda: ValueError("\ud800"),
    "surrogates in its name": lambda: type("E\ud800", (ValueError,), {})("x"),
    "no module": lambda: type("E", (ValueError,), {"__module__": None})("x"),
    "a class that cannot be read": Hidden,
    "a class that lies": Liar,
    "causes in a circle": circle,
    "a long chain of causes": chain,
    "groups in groups": groups,
    "a group": lambda: ExceptionGroup("some", [ValueError("\ud800"), Unprintable()]),
    "a group of exits": lambda: BaseExceptionGroup("some", [SystemExit(1), KeyboardInterrupt()]),
    "SystemExit": lambda: SystemExit(0),
    "KeyboardInterrupt": KeyboardInterrupt,
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": lambda: StopIteration(1),
    "StopAsyncIteration": StopAsyncIteration,
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "TimeoutError": lambda: TimeoutError("the handler's own"),
}

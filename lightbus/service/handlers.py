"""Which arguments of an event a listener's function takes. Whether an event fits is known before the call.

The signature of a function says what it takes. The signature of a decorated function is that of the inner function, and
the decorator may add arguments: then a missing argument is only certain after a call.
"""

from __future__ import annotations

import inspect
import traceback
import types
import typing
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import Enum
from typing import Any, Union

from ..exceptions import InvalidDeclaration, InvalidEventArguments, did_you_mean
from ..message import EventMessage
from ..phrases import safely
from ..typing import Kwargs
from .parameters import Parameter, by_name, empty
from .signature import Signature

__all__ = ["Handler"]

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MESSAGE_ALONE = inspect.Signature([inspect.Parameter("event_message", inspect.Parameter.POSITIONAL_ONLY)])


class _FirstRole(Enum):
    """The role of a function's first parameter."""

    MESSAGE = "the EventMessage"
    EITHER = "an argument of the event that has its name, else the EventMessage"
    ARGUMENT = "an argument"


class Handler:
    """
    The function of a listener, with the arguments that it takes.

    Attributes:
        name: its name in errors.

    Arguments:
        function: any callable.
        name: its name in errors.
        api_name: the API whose events it handles.
        casts: whether arguments are cast to the annotations.
        strict: whether an argument annotated as text must be text, and is not converted from other values.

    Raises:
        InvalidDeclaration: it takes an argument by position, and events have their arguments by name.

    """

    def __init__(
        self,
        function: Callable[..., Any],
        *,
        name: str,
        api_name: str = "",
        casts: bool = True,
        strict: bool = False,
    ) -> None:
        declared, own = _signatures(function)
        self._inner = None if own is declared else inspect.unwrap(function)
        """The inner function of a decorator that may add arguments: missing ones are found when it is called."""
        self.name = name
        self._casts = casts
        self._strict = strict
        self._first, self._first_role = "", _FirstRole.ARGUMENT
        annotated = {each.name: each for each in by_name(function, declared.parameters.values(), label=name)}
        for position, each in enumerate(declared.parameters.values()):
            if position == 0 and each.kind in (*_BY_POSITION, each.VAR_POSITIONAL):
                self._first = each.name
                self._first_role = (
                    _role_of(annotated[each.name].annotation) if each.name in annotated else _FirstRole.MESSAGE
                )
            elif each.kind is each.POSITIONAL_ONLY and each.default is empty:
                raise InvalidDeclaration(
                    f"{name} takes '{each.name}' by position only, and events have their arguments by name. "
                    "Move the '/' behind the first parameter, or remove it."
                )

        def signature(taken: Iterable[Parameter]) -> Signature:
            return Signature(kind="Event", api_name=api_name, name=name, parameters=taken)

        self._without_message = signature(annotated.values())
        self._with_message = signature(each for each in annotated.values() if each.name != self._first)
        self._message_always = self._first_role is _FirstRole.MESSAGE
        self._message_unless = self._first if self._first_role is _FirstRole.EITHER else None
        """The argument whose parameter gets the message if the event does not have that argument."""
        self._takes_all = self._without_message.wildcard is not None
        is_shadowed = self._takes_all and self._first_role is _FirstRole.MESSAGE and self._first in annotated
        self._shadowed = self._first if is_shadowed else None
        """The argument that cannot be passed, since the message takes its place."""

    def takes_message(self, names: Collection[str]) -> bool:
        """Return whether the function gets the message, for an event with arguments of these names."""
        return self._message_always or (self._message_unless is not None and self._message_unless not in names)

    def lacking(self, names: Collection[str]) -> list[str]:
        """Return the required arguments that are not among these names, in the order of its parameters."""
        signature = self._with_message if self.takes_message(names) else self._without_message
        return [each.name for each in signature.parameters if each.is_required and each.name not in names]

    @property
    def is_certain(self) -> bool:
        """Whether a missing argument is certainly missing: no decorator may add arguments."""
        return self._inner is None

    def arguments(self, message: EventMessage) -> tuple[tuple[EventMessage, ...], Kwargs]:
        """
        Return the arguments to call the function with for an event.

        Raises:
            InvalidEventArguments: a required argument is missing.
            ValidationError: an argument cannot be cast to its annotation.

        """
        kwargs = message.kwargs
        with_message = self._message_always or (self._message_unless is not None and self._message_unless not in kwargs)
        signature = self._with_message if with_message else self._without_message
        if not self._casts or not signature.passes(kwargs) or self._shadowed in kwargs:
            kwargs = self._fitted(signature, kwargs)
        return (message,) if with_message else (), kwargs

    def gives_message(self, several: Sequence[Kwargs]) -> bool | None:
        """
        Return whether the function also gets the message, if the arguments of all of several events need no change.

        Return None if some need a change: then call `arguments` for each event.
        """
        names = several[0]
        with_message = self.takes_message(names)
        signature = self._with_message if with_message else self._without_message
        is_ready = self._casts and self._shadowed not in names and signature.all_pass(several)
        return with_message if is_ready else None

    def _fitted(self, signature: Signature, kwargs: Kwargs) -> Kwargs:
        if self.is_certain and (lacking := self.lacking(kwargs)):
            raise self._argument_error(lacking, kwargs)
        if not self._takes_all:
            kwargs = {each.name: kwargs[each.name] for each in signature.parameters if each.name in kwargs}
        elif self._shadowed in kwargs:
            kwargs = {name: value for name, value in kwargs.items() if name != self._shadowed}
        return signature.cast(kwargs, strict=self._strict) if self._casts else kwargs

    def argument_error(self, error: BaseException, kwargs: Kwargs) -> InvalidEventArguments | None:
        """
        Return the error for a missing argument, if because of it the inner function was never entered.

        Return None if the exception is the function's own.
        """
        if self._inner is None or not (lacking := self.lacking(kwargs)):
            return None
        code = getattr(self._inner, "__code__", None)
        for each in _chain(error):
            frames = [frame.f_code for frame, _ in traceback.walk_tb(each.__traceback__)]
            if isinstance(each, TypeError) and code not in frames and f"'{lacking[0]}'" in safely(str, each):
                return self._argument_error(lacking, kwargs)
        return None

    def _argument_error(self, lacking: list[str], kwargs: Kwargs) -> InvalidEventArguments:
        near = did_you_mean(lacking[0], kwargs)
        has = ", ".join(kwargs) or "none"
        return InvalidEventArguments(
            f"{self.name} needs the argument '{lacking[0]}', which the event does not have.{near} It has: {has}."
        )


def _signatures(function: Callable[..., Any]) -> tuple[inspect.Signature, inspect.Signature]:
    """
    Return the declared signature of a function, and the signature of its outermost wrapper: mostly the same.

    A wrapper that takes any arguments passes them on to the inner function; another one is called with its own ones.
    """
    try:
        declared = inspect.signature(function)
    except (ValueError, TypeError):  # a builtin without a signature
        return _MESSAGE_ALONE, _MESSAGE_ALONE
    try:
        own = inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError):  # a wrapper without one, as `lru_cache` makes, passes on what it is given
        return declared, declared
    if declared == own or not any(each.kind is each.VAR_KEYWORD for each in own.parameters.values()):
        return own, own
    return declared, own


def _role_of(annotation: Any) -> _FirstRole:
    """Return the role of a first parameter with this annotation. A text is never the message, whatever its name."""
    if annotation is EventMessage:
        return _FirstRole.MESSAGE
    return _FirstRole.EITHER if _may_be_the_message(annotation) else _FirstRole.ARGUMENT


def _may_be_the_message(annotation: Any) -> bool:
    if annotation in (empty, Any) or isinstance(annotation, (str, typing.TypeVar, typing.ForwardRef)):
        return True
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        return _may_be_the_message(arguments[0])
    if origin in (Union, types.UnionType):
        return any(_may_be_the_message(each) for each in arguments)
    kind = annotation if origin is None else origin
    if not isinstance(kind, type):
        return kind is not None and not callable(kind)
    try:
        return getattr(kind, "_is_protocol", False) or issubclass(EventMessage, kind)
    except TypeError:  # a TypedDict, or another class that does not support issubclass
        return False


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception, and its causes and contexts."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__

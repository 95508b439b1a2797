"""The function of a listener that gets lists of events."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

from lightbus.exceptions import InvalidDeclaration
from lightbus.message import EventMessage
from lightbus.service.batch_handlers import BatchHandler


class Store:
    def save(self, messages: list[EventMessage], *, table: str = "events") -> None: ...


@pytest.mark.parametrize(
    "function",
    [
        lambda messages: None,
        lambda *args: None,
        Store().save,
        functools.partial(Store().save, table="orders"),
        list,
        max,  # a builtin without a signature
    ],
)
def test_function_of_a_list_is_accepted(function: Callable[..., Any]) -> None:
    """A function that can be called with one list gets one, and no argument of an event is missing."""
    handler, message = BatchHandler(function, name="save"), EventMessage(api_name="auth", event_name="seen")
    assert handler.arguments(message) == (([message],), {})
    assert (handler.lacking(["number"]), handler.argument_error(TypeError(), {})) == ([], None)


@pytest.mark.parametrize(
    "function", [lambda: None, lambda messages, username: None, lambda *, messages: None, lambda **kwargs: None]
)
def test_other_functions_are_refused(function: Callable[..., Any]) -> None:
    """A function that requires more than a list, or takes none, is refused with the form that works."""
    with pytest.raises(InvalidDeclaration, match=r"save cannot be called with a list alone.*with one parameter"):
        BatchHandler(function, name="save")

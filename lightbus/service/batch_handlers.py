"""The function of a listener with `batch`: it takes a list of events, and nothing else."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection
from typing import Any

from ..exceptions import InvalidDeclaration
from ..message import EventMessage
from ..typing import Kwargs

__all__ = ["BatchHandler"]


class BatchHandler:
    """
    The function of a listener that takes lists of EventMessages: it accepts every event.

    Attributes:
        name: its name in errors.

    Arguments:
        function: any callable.
        name: its name in errors.

    Raises:
        InvalidDeclaration: it cannot be called with just a list.

    """

    is_certain = True

    def __init__(self, function: Callable[..., Any], *, name: str) -> None:
        self.name = name
        try:
            inspect.signature(function).bind([])
        except ValueError:  # a builtin without a signature
            pass
        except TypeError:
            raise InvalidDeclaration(
                f"{name} cannot be called with a list alone. With `batch` a listener is given a list of EventMessages, "
                "whose arguments are in `message.kwargs`: write it with one parameter."
            ) from None

    def lacking(self, names: Collection[str]) -> list[str]:
        """Return the required arguments that are not among these names."""
        return []

    def arguments(self, message: EventMessage) -> tuple[tuple[list[EventMessage]], Kwargs]:
        """Return the arguments to call it with for a single event."""
        return ([message],), {}

    def argument_error(self, error: BaseException, kwargs: Kwargs) -> None:
        """Return None: an exception of this function is never due to missing arguments."""

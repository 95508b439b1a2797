"""What the function of a listener takes that is given events together: a list of them, and nothing else."""

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
    The function of a listener that takes lists of EventMessages: every event fits it.

    Attributes:
        name: what errors call it.

    Arguments:
        function: anything that can be called.
        name: what errors call it.

    Raises:
        InvalidDeclaration: it cannot be called with a list alone.

    """

    is_certain = True

    def __init__(self, function: Callable[..., Any], *, name: str) -> None:
        self.name = name
        try:
            inspect.signature(function).bind([])
        except ValueError:  # of a builtin that does not say what it takes
            pass
        except TypeError:
            raise InvalidDeclaration(
                f"{name} cannot be called with a list alone. With `batch` a listener is given a list of EventMessages, "
                "whose arguments are in `message.kwargs`: write it with one parameter."
            ) from None

    def lacking(self, names: Collection[str]) -> list[str]:
        """Return the arguments that it must be given and that are none of these."""
        return []

    def arguments(self, message: EventMessage) -> tuple[tuple[list[EventMessage]], Kwargs]:
        """Return what it is to be called with for an event that is given alone."""
        return ([message],), {}

    def argument_error(self, error: BaseException, kwargs: Kwargs) -> None:
        """Return what an exception really says: that of a function that takes any event is its own."""

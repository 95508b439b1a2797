"""The names of a path on the bus, and the rule that a path belongs to this process."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from .exceptions import UnsupportedUse

__all__ = ["SHORTEST", "PathNames"]

SHORTEST = 2
"""The fewest parts in the path of a procedure or an event: the name of its API, and its own."""


class PathNames:
    """
    The names of a path. Copying returns the path itself, and pickling is refused: a bus belongs to one process.

    Args:
        parts: the names of the path, in order.

    """

    __slots__ = ("_api_name", "_name", "_parts")

    def __init__(self, parts: tuple[str, ...]) -> None:
        self._parts = parts
        self._api_name = ".".join(parts[:-1])
        self._name = parts[-1] if parts else ""

    @property
    def api_name(self) -> str:
        """The API's name: all parts but the last."""
        return self._api_name

    @property
    def fully_qualified_name(self) -> str:
        """All parts: `"auth.check_password"`."""
        return ".".join(self._parts)

    # As in 1.x. In paths shorter than that of a procedure or an event these are ordinary names.

    @property
    def name(self) -> Any:
        """The last part."""
        return self._name if len(self._parts) >= SHORTEST else self.__dict__["name"]

    @property
    def parent(self) -> Any:
        """The path without its last part."""
        return self._at(self._parts[:-1]) if len(self._parts) >= SHORTEST else self.__dict__["parent"]

    def ancestors(self, include_self: bool = False) -> Iterator[Self]:
        """Iterate over the paths above this one, the nearest first and the root last."""
        longest = len(self._parts) - (not include_self)
        return (self._at(self._parts[:length]) for length in range(longest, -1, -1))

    def _at(self, parts: tuple[str, ...]) -> Self:
        """Return the path of these names on the same bus."""
        raise NotImplementedError

    def __str__(self) -> str:
        return self.fully_qualified_name

    def __repr__(self) -> str:
        return f"<BusPath {self.fully_qualified_name or 'root'}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> str:
        raise UnsupportedUse(
            f"{self!r} cannot be pickled, so it cannot be sent to another process: import the module that makes the "
            "bus there, or call lightbus.create() there."
        )

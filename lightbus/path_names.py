"""What a path on the bus says of itself: of which names it is made, and that it belongs to this process."""

from __future__ import annotations

from typing import Self

from .exceptions import UnsupportedUse

__all__ = ["PathNames"]


class PathNames:
    """
    The names of a path. A copy is the path itself: a bus is of one process, and another one has to make its own.

    Args:
        parts: the names of which it is made, from the first on.

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
            f"{self!r} cannot be pickled, and so not be sent to another process: import the module there that makes "
            "the bus, or call lightbus.create() there."
        )

"""The class of an error received from a peer: each class of ours has a code on the wire."""

from __future__ import annotations

from collections.abc import Iterable

from ..exceptions import LightbusException

__all__ = ["error_for_code"]


def _tree(root: type[LightbusException]) -> Iterable[type[LightbusException]]:
    yield root
    for child in root.__subclasses__():
        yield from _tree(child)


_BY_CODE: dict[str, type[LightbusException]] = {
    cls.code: cls for cls in _tree(LightbusException) if "code" in vars(cls)
}
"""Classes by code. A class without a code of its own is sent with that of its base class."""


def error_for_code(code: str) -> type[LightbusException]:
    """
    Return the class whose wire code this is.

    A peer of a later version may send codes that are unknown here: they give the root class, so that the message
    reaches the caller.
    """
    return _BY_CODE.get(code, LightbusException)

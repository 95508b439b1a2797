"""The bus modules that are being imported right now: calls that would never return are refused meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from .exceptions import UnsupportedUse

__all__ = ["forbid_while_importing", "importing"]

_modules: list[str] = []


@contextmanager
def importing(name: str) -> Iterator[None]:
    """Record, while the body runs, that a bus module is being imported."""
    _modules.append(name)
    try:
        yield
    finally:
        _modules.remove(name)


def forbid_while_importing(what: str) -> None:
    """Raise UnsupportedUse while a bus module is being imported: the import would never return."""
    if _modules:
        raise UnsupportedUse(
            f"{what} was called at the top level of the bus module '{_modules[-1]}', whose import would then never "
            "return. Whoever imports it (`lightbus run`) serves it; for `python` put the call below "
            "`if __name__ == '__main__':`."
        )

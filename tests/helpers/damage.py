"""Databases that are damaged, as a bad disk or a clumsy script leaves them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["damage"]


def damage(file: Path) -> None:
    """
    Put what is no database in the place of one, at once.

    Written over in place, it might be mended again by whoever is using it: SQLite writes all pages of a file that it
    has seen empty.
    """
    damaged = file.with_name(f"{file.name}.new")
    damaged.write_bytes(b"no database" * 1000)
    os.replace(damaged, file)

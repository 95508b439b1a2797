"""Damaged databases, as a bad disk or a careless script leaves them."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["damage"]


def damage(file: Path) -> None:
    """
    Replace a database by a file that is no database, in one step.

    If the file were overwritten in place, a process that uses it might repair it: SQLite writes all pages of a file
    that
    it has seen empty.
    """
    damaged = file.with_name(f"{file.name}.new")
    damaged.write_bytes(b"no database" * 1000)
    os.replace(damaged, file)

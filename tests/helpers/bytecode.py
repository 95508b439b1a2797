"""
Compiled modules, for the interpreters that tests start by the hundred.

Where Python may write no bytecode beside the sources (PYTHONDONTWRITEBYTECODE, as in many containers) each of them
would compile the whole package anew, which takes longer than all the rest of its start. So the run has a place of its
own for it, which the next run finds again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["keep_bytecode", "kept_for"]


def keep_bytecode(directory: Path) -> None:
    """Make this interpreter, and those started from it, keep bytecode in a directory, if they would keep none."""
    if sys.dont_write_bytecode and sys.pycache_prefix is None:
        sys.dont_write_bytecode, sys.pycache_prefix = False, str(directory)
        os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
        os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix


def kept_for(user: int) -> dict[str, str]:
    """Return the variable for programs of another user, which may not write into our directory."""
    if sys.pycache_prefix is None:
        return {}
    directory = Path(sys.pycache_prefix, f"of-{user}")
    directory.mkdir(parents=True, exist_ok=True)
    os.chown(directory, user, user)
    return {"PYTHONPYCACHEPREFIX": str(directory)}

"""
Bytecode for the many interpreters that tests start.

If Python may not write bytecode beside the sources (PYTHONDONTWRITEBYTECODE, as in many containers), each of them would
compile the whole package, which takes longer than the rest of its start. So a run of the tests stores bytecode in a
directory of its own, which the next run uses again.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["keep_bytecode", "kept_for"]


def keep_bytecode(directory: Path) -> None:
    """Let this interpreter, and those started from it, store bytecode in a directory, if they would store none."""
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

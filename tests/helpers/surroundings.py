"""The environment of a test: directories and variables that no other test, and no user, shares."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .leaks import MARK

__all__ = ["Roots", "Surroundings", "logging_not_set_up", "own_surroundings"]

SHORT = "/tmp"
"""Where the directories are made: not in TMPDIR, which may be too long for unix sockets (107 bytes at most)."""


DIRECTORIES = ("run", "data", "tmp", "config")
"""The directories in the root of each test."""


class Roots:
    """
    Makes the directories for one test after the other, and removes them.

    Most tests write nothing, and making and removing five directories takes as long as such a test. So the next test
    gets the same directories if they are unchanged.
    """

    def __init__(self) -> None:
        self._spare: Path | None = None

    def take(self) -> Path:
        """Return a directory with the `DIRECTORIES`, for this user alone, and nothing else."""
        root, self._spare = self._spare, None
        if root is None:
            root = Path(tempfile.mkdtemp(prefix="lb-", dir=SHORT))
            for name in DIRECTORIES:
                (root / name).mkdir(mode=0o700)
        return root

    def give_back(self, root: Path) -> None:
        """Remove a directory, or keep it if it is unchanged."""
        if self._spare is None and _is_as_made(root):
            self._spare = root
        else:
            shutil.rmtree(root, ignore_errors=True)

    def close(self) -> None:
        """Remove all."""
        if self._spare is not None:
            shutil.rmtree(self._spare, ignore_errors=True)
            self._spare = None


def _is_as_made(root: Path) -> bool:
    ours = [f"{root}/{name}" for name in DIRECTORIES]  # looked at after each test: no Path is made
    try:
        are_for_us = all(os.lstat(each).st_mode == stat.S_IFDIR | 0o700 for each in (str(root), *ours))
        return are_for_us and len(os.listdir(root)) == len(ours) and not any(os.listdir(each) for each in ours)
    except OSError:
        return False


class Surroundings:
    """The bus name and the directories of one test."""

    def __init__(self, root: Path) -> None:
        self.bus = f"test-{secrets.token_hex(4)}"
        self.runtime, self.data, self.temporary, self.settings = (root / name for name in DIRECTORIES)

    def environment(self) -> dict[str, str]:
        """Return the variables that direct the library, and every child process, here."""
        return {
            MARK: self.bus,
            "LIGHTBUS_BUS": self.bus,
            "LIGHTBUS_DATA_DIR": str(self.data),
            "XDG_RUNTIME_DIR": str(self.runtime),
            "XDG_CONFIG_HOME": str(self.settings),
            "TMPDIR": str(self.temporary),
        }

    def left_files(self) -> list[str]:
        """Return a line for each file left in the directory of temporary files."""
        return [f"temporary file {path.name}" for path in sorted(self.temporary.iterdir())]


@contextmanager
def logging_not_set_up() -> Iterator[None]:
    """Reset our logger, before and after: a command that is run in this process configures it."""
    _reset_logging()
    try:
        yield
    finally:
        _reset_logging()


def _reset_logging() -> None:
    ours = logging.getLogger("lightbus")
    ours.handlers[:], ours.propagate = [], True
    ours.setLevel(logging.NOTSET)


@contextmanager
def own_surroundings(roots: Roots) -> Iterator[Surroundings]:
    """Make the environment, use it in the process, and remove it. No LIGHTBUS_* setting of the user is visible."""
    made, root = None, roots.take()
    try:
        made = Surroundings(root)
        with pytest.MonkeyPatch.context() as patch:
            for name in [name for name in os.environ if name.startswith("LIGHTBUS_")]:
                if not name.startswith("LIGHTBUS_TEST_"):
                    patch.delenv(name)
            for name, value in made.environment().items():
                patch.setenv(name, value)
            patch.setattr(tempfile, "tempdir", str(made.temporary))
            yield made
    finally:
        roots.give_back(root)
        if made is not None:
            _remove_sockets(made.bus)


def _remove_sockets(bus: str) -> None:
    """Remove the sockets of killed processes, also of other users."""
    for name in os.listdir(SHORT):
        if name.startswith("lightbus-") and os.path.exists(left := f"{SHORT}/{name}/{bus}"):
            shutil.rmtree(left, ignore_errors=True)

"""The environment of a test is new, whatever the previous test did."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from helpers.surroundings import DIRECTORIES, SHORT, Roots, logging_not_set_up, own_surroundings
from lightbus.logs import configure_logging


def test_logging_is_reset() -> None:
    """After a command in this process, a later test still sees log messages."""
    ours = logging.getLogger("lightbus")
    with logging_not_set_up():
        configure_logging("warning")
        assert not ours.propagate
        with logging_not_set_up():
            assert (ours.handlers, ours.level, ours.propagate) == ([], logging.NOTSET, True)
    assert (ours.handlers, ours.level, ours.propagate) == ([], logging.NOTSET, True)


def test_unchanged_directories_are_reused() -> None:
    """They exist, empty and for this user alone; after the last test they are removed."""
    with closing(Roots()) as roots:
        first = roots.take()
        assert {path.name: (path.stat().st_mode & 0o777, [*path.iterdir()]) for path in first.iterdir()} == {
            name: (0o700, []) for name in DIRECTORIES
        }
        roots.give_back(first)
        assert roots.take() == first
        roots.give_back(first)
        assert first.exists()
    assert not first.exists()


@pytest.mark.parametrize(
    "touch",
    [
        lambda root: (root / "data" / "journal").touch(),
        lambda root: (root / "more").mkdir(),
        lambda root: (root / "run").rmdir(),
        lambda root: (root / "tmp").chmod(0o755),
        lambda root: root.chmod(0o711),
        lambda root: ((root / "config").rmdir(), (root / "config").symlink_to(root / "data")),
        shutil.rmtree,
    ],
    ids=["a file", "a directory", "one is gone", "others' rights", "others' way", "a link", "all are gone"],
)
def test_changed_directories_are_removed(touch: Callable[[Path], object]) -> None:
    """Whatever a test did to them, no other test sees it."""
    with closing(Roots()) as roots:
        first = roots.take()
        touch(first)
        roots.give_back(first)
        assert not first.exists()
        second = roots.take()
        assert sorted(path.name for path in second.iterdir()) == sorted(DIRECTORIES)
        roots.give_back(second)


def test_sockets_of_killed_processes_are_removed() -> None:
    """In any user's directory; those of other buses stay."""
    with closing(Roots()) as roots, TemporaryDirectory(prefix="lightbus-", dir=SHORT) as users:
        other = Path(users, "other")
        other.mkdir()
        with own_surroundings(roots) as made:
            left = Path(users, made.bus)
            left.mkdir()
            (left / "0.rpc").touch()
        assert not left.exists()
        assert other.exists()

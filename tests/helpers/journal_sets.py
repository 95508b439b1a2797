"""The journals of processes of one service, for tests of their owners and maintenance."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightbus.adapters.sqlite.group_table import KnownGroup
from lightbus.adapters.sqlite.journal import Journal, NewEvent
from lightbus.adapters.sqlite.topic import Topic
from lightbus.config import Config
from lightbus.events.publishing.journal_set import JournalSet
from lightbus.membership.context import Identity

__all__ = ["SHOP", "TOPIC", "journals", "leave_one", "made", "store"]

TOPIC = Topic("auth", "seen", 1)
SHOP = KnownGroup("auth", "shop", ("seen",), 1.0, 2.0, "d")


def made(path: Path, **journal: Any) -> JournalSet:
    """Return the journals of one more process of a service."""
    config = Config.model_validate({"journal": {"data_dir": path / "data", **journal}})
    return JournalSet(config, Identity(bus="b", service="auth", process="p", instance="a" * 16, host="here"))


@pytest.fixture
def journals(tmp_path: Path) -> Iterator[JournalSet]:
    """Return a set of journals that keep no handled events."""
    journals = made(tmp_path, min_age=0.001)
    yield journals
    journals.close()


def store(journal: Journal, at: float = 1.0) -> int:
    """Store an event."""
    return journal.append([NewEvent(TOPIC, b"r", at)])[0].sequence


def leave_one(path: Path, *groups: KnownGroup) -> str:
    """Leave a journal with an event that no process holds; return its name."""
    other = made(path)
    store(other.own())
    for group in groups:
        other.own().groups.save(group)
    name = other.own().id
    other.close()
    return name

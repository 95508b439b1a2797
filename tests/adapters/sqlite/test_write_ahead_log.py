"""The write-ahead log is written back, and a warning names what prevents that."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers.journals import event
from lightbus.adapters.sqlite.journal import Journal


def test_checkpoint_truncates_the_log(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write-ahead log is written back; a large one is truncated."""
    monkeypatch.setattr("lightbus.adapters.sqlite.write_ahead_log.LARGE", 1000)
    journal.append([event(record=b"x" * 1000) for _ in range(100)])
    log = Path(f"{journal.path}-wal")
    assert log.stat().st_size > 100_000
    journal.checkpoint()
    assert log.stat().st_size == 0
    journal.checkpoint()

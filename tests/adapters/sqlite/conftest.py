"""A new journal for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from lightbus.adapters.sqlite.journal import Journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return where the journal of a test is."""
    return tmp_path / "00000000000000aa.sqlite"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    """Return a new journal."""
    made = Journal(path)
    yield made
    made.close()

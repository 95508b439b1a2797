"""The bus in memory, for tests whose subject is not the network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from lightbus.testing import MemoryBus

__all__ = ["hub"]


@pytest.fixture
def hub() -> Iterator[MemoryBus]:
    """Return a bus in memory; everything on it is closed at the test's end."""
    from lightbus.testing import memory_bus  # tests/conftest.py says first where its bytecode is kept

    with memory_bus() as hub:
        yield hub

"""The tests of settings have the defaults that users have."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def defaults() -> None:
    """Leave the defaults as they are."""

"""The class of an error received from a peer."""

from __future__ import annotations

import pytest

from lightbus import exceptions
from lightbus.exceptions import LightbusException
from lightbus.wire.error_codes import error_for_code

EVERYTHING = [getattr(exceptions, name) for name in exceptions.__all__]
CLASSES = [each for each in EVERYTHING if isinstance(each, type) and issubclass(each, LightbusException)]


@pytest.mark.parametrize("cls", CLASSES)
def test_code_gives_its_class(cls: type[LightbusException]) -> None:
    """The receiver gets the class of the sender."""
    assert error_for_code(cls.code) is cls


def test_unknown_code_gives_the_root_class() -> None:
    """So its message reaches the caller."""
    assert error_for_code("from_the_future") is LightbusException

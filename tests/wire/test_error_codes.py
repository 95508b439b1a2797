"""What an error that crossed the wire is on the other side."""

from __future__ import annotations

import pytest

from lightbus import exceptions
from lightbus.exceptions import LightbusException
from lightbus.wire.error_codes import error_for_code

EVERYTHING = [getattr(exceptions, name) for name in exceptions.__all__]
CLASSES = [each for each in EVERYTHING if isinstance(each, type) and issubclass(each, LightbusException)]


@pytest.mark.parametrize("cls", CLASSES)
def test_a_code_leads_back_to_its_class(cls: type[LightbusException]) -> None:
    """The receiving side makes of a code the class that the sending side had."""
    assert error_for_code(cls.code) is cls


def test_a_code_of_a_later_version() -> None:
    """An unknown code becomes the root class, so that its message reaches the caller all the same."""
    assert error_for_code("from_the_future") is LightbusException

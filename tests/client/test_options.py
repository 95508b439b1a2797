"""`bus_options`: invalid ones are refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from lightbus import BusPath, InvalidParameters


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (5, "is 5. It is a dict"),
        ("timeout", "It is a dict"),
        ({"timeot": 1}, "no option 'timeot'. Did you mean 'timeout'"),
        ({"timeout": -1}, "timeout is -1"),
        ({"idempotent": "no"}, "idempotent is 'no', and has to be of type bool"),
        ({"trace": 5}, "trace is 5"),
        ({"peer": 5}, "peer is 5"),
    ],
)
def test_invalid_options_are_refused(caller: BusPath, options: Any, complaint: str) -> None:
    """Options in a wrong form are refused before anything else is done, for each form of a call."""
    for place in (caller.nowhere.nothing, caller.nowhere.nothing.call):
        with pytest.raises(InvalidParameters, match=re.escape(complaint)):
            place(bus_options=options)

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
        ({"zzz": 1}, "no option 'zzz'. There are: timeout, idempotent, trace, peer, version"),
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


def test_options_of_a_name_without_a_kind_are_listed_once(caller: BusPath) -> None:
    """`bus.auth.register()` may call or fire, and so has the options of both."""
    with pytest.raises(InvalidParameters, match=r"There are: timeout, idempotent, trace, peer, version, wait_for\.$"):
        caller.nowhere.nothing(bus_options={"zzz": 1})

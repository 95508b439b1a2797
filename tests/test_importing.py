"""Calls that are refused while a bus module is imported."""

from __future__ import annotations

import pytest

from lightbus.exceptions import UnsupportedUse
from lightbus.importing import forbid_while_importing, importing


def test_what_blocks_is_refused_while_a_module_is_imported() -> None:
    """Also in a module that is imported by another one, and not any more once the import has ended, or failed."""
    forbid_while_importing("run_forever()")
    with pytest.raises(ZeroDivisionError), importing("outer"):  # noqa: PT012 - what happens before it is the matter
        with importing("inner"), pytest.raises(UnsupportedUse, match=r"run_forever\(\) .* bus module 'inner'"):
            forbid_while_importing("run_forever()")
        with pytest.raises(UnsupportedUse, match=r"bus module 'outer', .*__main__"):
            forbid_while_importing("run_forever()")
        raise ZeroDivisionError
    forbid_while_importing("run_forever()")

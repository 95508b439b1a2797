"""What a test finds around it is as new, whatever the one before did."""

from __future__ import annotations

import logging

from helpers.surroundings import logging_not_set_up
from lightbus.logs import configure_logging


def test_logging_is_as_new() -> None:
    """A command that was run in this process keeps no later test from seeing what is logged."""
    ours = logging.getLogger("lightbus")
    with logging_not_set_up():
        configure_logging("warning")
        assert not ours.propagate
        with logging_not_set_up():
            assert (ours.handlers, ours.level, ours.propagate) == ([], logging.NOTSET, True)
    assert (ours.handlers, ours.level, ours.propagate) == ([], logging.NOTSET, True)

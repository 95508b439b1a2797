"""How `lightbus run` starts further processes, and prepares its client: it may run inside another program."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from ...client import BusClient

__all__ = ["RunAs"]


def _nothing(client: BusClient) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAs:
    """
    Options for code that calls `run` by `run.main(..., obj=RunAs(...))`.

    Attributes:
        command: the command that starts such a process.
        prepare: called with the client of the bus module before its worker is made.

    """

    command: Sequence[str] = (sys.executable, "-m", "lightbus", "run")
    prepare: Callable[[BusClient], None] = _nothing

    @staticmethod
    def current() -> RunAs:
        """Return the RunAs of the running command."""
        return click.get_current_context().find_object(RunAs) or RunAs()

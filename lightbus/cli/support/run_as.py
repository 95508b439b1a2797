"""How `lightbus run` is to start another process like itself, and what is done first: another program may be around."""

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
    What whoever calls `run` by `run.main(..., obj=RunAs(...))` may say.

    Attributes:
        command: what starts it.
        prepare: is given the client of the bus module before its worker is made.

    """

    command: Sequence[str] = (sys.executable, "-m", "lightbus", "run")
    prepare: Callable[[BusClient], None] = _nothing

    @staticmethod
    def current() -> RunAs:
        """Return that of the command that runs."""
        return click.get_current_context().find_object(RunAs) or RunAs()

"""A procedure of this worker, with the state that all calls of it share."""

from __future__ import annotations

from ..config import ApiSettings
from ..service.api import Api, Procedure
from ..service.execution import never_suspends
from .statistics import Usage

__all__ = ["Callee"]

QUICK = 0.0005
"""Longest call, in seconds, of a procedure that is executed without a task: it blocks the loop that long."""

MANY = 100
"""
Quick calls in a row after which a single long one is attributed to the scheduler, which ran another process meanwhile.
If the next call is long, too, the procedure itself takes long.
"""


class Callee:
    """
    A procedure that is served. Made at its first call, and only used from the node's loop.

    Args:
        api: the API object of the procedure; a replaced API of the same name has procedures of its own.
        procedure: the procedure to execute.
        settings: the settings of the API.

    Attributes:
        name: the name of API and procedure.
        is_internal: whether the API is one of `internal.`: questions about the worker itself.
        passes, result_passes: whether arguments, or a result, are valid without a full check (`Signature`).
        checks_result: whether results are validated against the schema.
        usage: the counters of its calls.
        never_suspends: whether the procedure is a coroutine function without an `await`, so that it never suspends.
        was_quick: whether the latest call took less than `QUICK`, or was the first longer one after `MANY` that did.

    """

    __slots__ = (
        "_quick",
        "api",
        "checks_result",
        "is_internal",
        "name",
        "never_suspends",
        "passes",
        "procedure",
        "result_passes",
        "settings",
        "usage",
        "was_quick",
    )

    def __init__(self, api: Api, procedure: Procedure, settings: ApiSettings) -> None:
        self.api = api
        self.procedure = procedure
        self.settings = settings
        self.name = f"{procedure.api_name}.{procedure.name}"
        self.is_internal = procedure.api_name.startswith("internal.")
        self.passes, self.result_passes = procedure.signature.passes, procedure.signature.result_passes
        # Answers about a worker are checked where they arrive (`wire/answers.py`). They contain users' events, and the
        # check of one that is nested too deeply for it would fail the answer about all others.
        self.checks_result = settings.validation.outgoing and not self.is_internal
        self.usage: Usage | None = None
        self.was_quick = True
        self._quick = 0
        """Quick calls in a row."""
        self.never_suspends = procedure.is_async and never_suspends(procedure.function)

    @property
    def is_executed_at_once(self) -> bool:
        """Whether a call is executed without a task: the procedure never suspends, and is quick."""
        return self.never_suspends and self.was_quick

    def note_duration(self, seconds: float) -> None:
        """Record how long the handler of a call took."""
        if seconds < QUICK:
            self.was_quick = True
            self._quick += 1
        else:
            self.was_quick, self._quick = self._quick >= MANY, 0

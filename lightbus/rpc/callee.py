"""A called procedure of this worker, with what all calls of it have in common."""

from __future__ import annotations

from ..config import ApiSettings
from ..service.api import Api, Procedure
from ..service.execution import waits_nowhere
from .statistics import Usage

__all__ = ["Callee"]

QUICK = 0.0005
"""Seconds that a call takes which is executed at once, without a task: what else the loop has to do waits for it."""

MANY = 100
"""
Calls in a row after which one that takes longer was interrupted, more likely than not: by another process that had its
turn. Where the next one takes as long, it is the procedure that does.
"""


class Callee:
    """
    A procedure, as it is served. Made at its first call, and only touched from the node's loop.

    Args:
        api: whose procedure it is: another one of the same name has others.
        procedure: the procedure to execute.
        settings: those of its API.

    Attributes:
        name: of the procedure, with its API's.
        is_internal: whether it is a question about the worker itself.
        passes, result_passes: whether arguments, or a result, are valid without a full check (`Signature`).
        checks_result: whether a result that does is held against the schema.
        usage: the counters of its calls.
        waits_nowhere: whether the procedure is a coroutine that waits for nothing.
        was_quick: whether the latest call was executed within `QUICK`, or is the first of many that was not.

    """

    __slots__ = (
        "_quick",
        "api",
        "checks_result",
        "is_internal",
        "name",
        "passes",
        "procedure",
        "result_passes",
        "settings",
        "usage",
        "waits_nowhere",
        "was_quick",
    )

    def __init__(self, api: Api, procedure: Procedure, settings: ApiSettings) -> None:
        self.api = api
        self.procedure = procedure
        self.settings = settings
        self.name = f"{procedure.api_name}.{procedure.name}"
        self.is_internal = procedure.api_name.startswith("internal.")
        self.passes, self.result_passes = procedure.signature.passes, procedure.signature.result_passes
        self.checks_result = settings.validation.outgoing
        self.usage: Usage | None = None
        self.was_quick = True
        self._quick = 0
        """Calls in a row that were."""
        self.waits_nowhere = procedure.is_async and waits_nowhere(procedure.function)

    @property
    def is_executed_at_once(self) -> bool:
        """Whether a call needs no task: it waits for nothing, and is not long."""
        return self.waits_nowhere and self.was_quick

    def note_duration(self, seconds: float) -> None:
        """Note how long the handler of a call took."""
        if seconds < QUICK:
            self.was_quick = True
            self._quick += 1
        else:
            self.was_quick, self._quick = self._quick >= MANY, 0

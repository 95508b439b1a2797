"""Reports events that listeners of this process will never get: in the log, in counters, and to `on_events_lost`."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from ...recurring import RecurringLog
from ...service.execution import Execution
from ...service.failures import report
from .listener_context import ListenerContext

__all__ = ["LossReports"]

logger = logging.getLogger("lightbus.listeners")

JOURNAL_REMEDY = "Raise journal.max_events or journal.max_bytes there"


class LossReports:
    """
    Reports events that are lost. Only touched from the node's loop.

    Args:
        context: the process, which has the hooks.
        counts: the consumer's counters: lost, gaps.

    """

    def __init__(self, context: ListenerContext, counts: Counter[str]) -> None:
        self._context = context
        self._counts = counts
        self._failures = RecurringLog(logger)
        self._tasks: set[asyncio.Task[None]] = set()

    def deleted(
        self, api: str, event: str, group: str, publisher: object, count: int, *, remedy: str = JOURNAL_REMEDY
    ) -> None:
        """Report that retention deleted events before this group got them."""
        self._counts["lost"] += count
        self._failures.log(
            ("deleted", api, event, group, str(publisher)), logging.ERROR,
            "%d events of %s.%s were deleted by the retention of %s before the group %s could have them. "
            "%s, or have the group's processes run more often.",
            count, api, event, publisher, group, remedy, changes=False,
        )  # fmt: skip
        if self._context.hooks.has("on_events_lost"):
            details = {"api_name": api, "event_name": event, "group": group, "count": count}
            task = asyncio.get_running_loop().create_task(self._run_hook(details))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def missed(self, api: str, event: str, publisher: object, count: int) -> None:
        """Report that so many events of best effort were lost between publisher and listener."""
        self._counts["gaps"] += 1
        text = "%d events of %s.%s from %s were lost in transit: this process reads too slowly"
        self._failures.log(("missed", api, event), logging.WARNING, text, count, api, event, publisher, changes=False)

    async def _run_hook(self, details: dict[str, Any]) -> None:
        context = self._context
        execution = Execution(asyncio.get_running_loop(), context.executor)
        call: Callable[..., Awaitable[Any]] = execution.call
        try:
            await context.hooks.run("on_events_lost", call, client=context.client, **details)
        except BaseException as error:
            report(logger, logging.ERROR, error, "The hook on_events_lost failed")

"""The additions to the worker in which steps are counted (`bench.meter`)."""

from __future__ import annotations

from lightbus import Api

from .meter import Counts, meter

__all__ = ["StepsApi"]

METER = meter()  # before any thread is started


class StepsApi(Api):
    """Counts the steps of this worker."""

    class Meta:
        name = "steps"

    async def begin(self) -> None:
        """Start counting."""
        METER.start()

    async def end(self) -> Counts:
        """Return the counts."""
        return METER.stop()

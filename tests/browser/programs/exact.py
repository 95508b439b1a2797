"""A service that returns its arguments: for tests of numbers that JavaScript would change."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import lightbus

bus = lightbus.create()


class ExactApi(lightbus.Api):
    """Procedures that return or fire their arguments."""

    said = lightbus.Event(parameters=["number"])

    class Meta:
        name = "exact"

    def echo(self, number: int, price: Decimal, text: str, more: Any = None) -> list[str]:
        """Return all of it, as Python writes it."""
        return [repr(each) for each in (number, price, text, more)]

    async def same(self, more: Any) -> Any:
        """Return it, and fire it."""
        await bus.exact.said.fire_async(number=more)
        return more

    async def wait(self, seconds: float) -> None:
        """Return after a while."""
        await asyncio.sleep(seconds)

    def fail(self, text: str) -> None:
        """Raise ValueError."""
        raise ValueError(text)


bus.client.register_api(ExactApi())

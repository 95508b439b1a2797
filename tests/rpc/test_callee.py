"""A procedure as it is served: what all calls of it have in common."""

from __future__ import annotations

import asyncio

import pytest

from lightbus.config import ApiSettings
from lightbus.rpc.callee import MANY, QUICK, Callee
from lightbus.service.api import Api


class Shop(Api):
    class Meta:
        name = "shop"

    async def price(self) -> int:
        return 3

    async def stock(self) -> int:
        await asyncio.sleep(0)
        return 7

    def order(self) -> None:
        pass


class Inner(Api):
    class Meta:
        name = "internal.shop"
        internal = True

    async def ping(self) -> str:
        return "pong"


def callee(api: Api, name: str) -> Callee:
    return Callee(api, api.get_procedure(name), ApiSettings())


@pytest.mark.parametrize(("name", "expected"), [("price", True), ("stock", False), ("order", False)])
def test_only_what_waits_for_nothing_is_executed_at_once(name: str, expected: bool) -> None:
    """A handler that awaits something, or blocks, needs a task or a thread."""
    assert callee(Shop(), name).is_executed_at_once is expected


def test_only_what_is_quick_is_executed_at_once() -> None:
    """One call that took long is enough for the next one to get a task; and one that did not, for none."""
    price = callee(Shop(), "price")
    price.note_duration(QUICK)
    assert not price.is_executed_at_once
    price.note_duration(QUICK / 2)
    assert price.is_executed_at_once


def test_after_many_quick_calls_a_single_long_one_was_interrupted() -> None:
    """The process was not given its turn; only a second one says that the procedure takes long, and that at once."""
    price = callee(Shop(), "price")
    for _ in range(MANY):
        price.note_duration(QUICK / 2)
    price.note_duration(1.0)
    assert price.is_executed_at_once
    price.note_duration(1.0)
    assert not price.is_executed_at_once
    price.note_duration(QUICK / 2)
    price.note_duration(1.0)
    assert not price.is_executed_at_once, "it has to be quick many times again"


def test_questions_about_the_worker() -> None:
    """They are known by the name of their API."""
    assert callee(Inner(), "ping").is_internal
    assert not callee(Shop(), "price").is_internal

"""A procedure as a worker serves it: the state that all its calls share."""

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
def test_only_handlers_that_never_suspend_are_executed_at_once(name: str, expected: bool) -> None:
    """A handler that awaits, or is a `def` function, needs a task or a thread."""
    assert callee(Shop(), name).is_executed_at_once is expected


def test_only_quick_handlers_are_executed_at_once() -> None:
    """After one long call the next one gets a task; after a quick one it does not."""
    price = callee(Shop(), "price")
    price.note_duration(QUICK)
    assert not price.is_executed_at_once
    price.note_duration(QUICK / 2)
    assert price.is_executed_at_once


def test_after_many_quick_calls_one_long_call_does_not_count() -> None:
    """The process was probably interrupted; only a second long call in a row means that the procedure takes long."""
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


def test_internal_apis_are_recognised() -> None:
    """They are recognised by the name of their API; their answers are checked by who gets them, and not before."""
    inner, price = callee(Inner(), "ping"), callee(Shop(), "price")
    assert (inner.is_internal, price.is_internal) == (True, False)
    assert (inner.checks_result, price.checks_result) == (False, True)

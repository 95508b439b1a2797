"""APIs for specifications, with many kinds of annotations."""

from __future__ import annotations

import datetime as dt
import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple

import pydantic
import pytest

import lightbus
from lightbus.cli.schemas.gathering import DescribedApi, described_of_module


class Kind(enum.Enum):
    GIFT = "gift"
    PLAIN = "plain"


@dataclass
class User:
    name: str
    friends: list[User]
    born: dt.date | None = None


class Cat(pydantic.BaseModel):
    kind: Literal["cat"]


class Dog(pydantic.BaseModel):
    kind: Literal["dog"]


class Point(NamedTuple):
    x: int
    y: int = 0


class OrdersApi(lightbus.Api):
    """Orders, and who placed them."""

    placed = lightbus.Event([lightbus.Parameter("user", User), lightbus.Parameter("at", dt.datetime)], key="at")
    seen = lightbus.Event(["anything"], delivery="best_effort")

    class Meta:
        name = "shop.orders"
        version = 3

    def place(
        self,
        user: User,
        kind: Kind = Kind.PLAIN,
        price: Decimal = Decimal("1.5"),
        pet: Annotated[Cat | Dog, pydantic.Field(discriminator="kind")] | None = None,
    ) -> tuple[int, str]:
        """
        Place an order.

        It is not placed twice.
        """
        return 1, ""

    def find(self, at: Point, **rest: int) -> User | None:
        """Return the person at a place."""

    def nothing(self, anything):  # type: ignore[no-untyped-def]
        return anything


@pytest.fixture
def apis() -> dict[str, DescribedApi]:
    """Return the API above, and one of which only the schema is known."""
    bus = lightbus.create(service_name="shop")
    bus.client.register_api(OrdersApi())
    plain: dict[str, Any] = {"rpcs": {"a": {"parameters": True, "response": {}}}, "events": {"b": {"parameters": {}}}}
    bus.schema.add_foreign("other", plain)
    return described_of_module(bus)

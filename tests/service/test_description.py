"""The description of an Api for people."""

from __future__ import annotations

from lightbus import Api, Event, Parameter
from lightbus.service.description import MAX_DOC, describe_api


class ShopApi(Api):
    """
    What is sold.

        indented
    """

    sold = Event(["item", Parameter("price", float, default=1.0)], key="item", delivery="best_effort")

    class Meta:
        name = "shop"
        version = 3

    async def sell(self, item: str, price: float = 1.0) -> bool:
        """Sell something."""
        return True

    def silent(self) -> None: ...


class BareApi(Api):
    class Meta:
        name = "bare"


def test_signatures_and_docstrings_are_described() -> None:
    """Signatures are in Python's notation, docstrings without indentation."""
    assert describe_api(ShopApi()) == {
        "api": "shop",
        "version": 3,
        "doc": "What is sold.\n\n    indented",
        "procedures": [
            {
                "name": "sell",
                "signature": "sell(item: str, price: float = 1.0) -> bool",
                "doc": "Sell something.",
                "async": True,
            },
            {"name": "silent", "signature": "silent() -> None", "doc": "", "async": False},
        ],
        "events": [
            {
                "name": "sold",
                "signature": "sold(item, price: float = 1.0)",
                "version": 3,
                "key": "item",
                "delivery": "best_effort",
            }
        ],
    }


def test_api_without_docstring_has_no_description() -> None:
    """The docstring of its base class is not used."""
    assert describe_api(BareApi())["doc"] == ""


def test_long_docstring_is_cut() -> None:
    """At the maximum length."""
    api = type("LongApi", (BareApi,), {"__doc__": "x" * (MAX_DOC + 1)})()
    assert len(describe_api(api)["doc"]) == MAX_DOC

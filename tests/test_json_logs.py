from __future__ import annotations

import json
import logging
import sys
from datetime import datetime
from typing import Any

import pytest

from lightbus.json_logs import JsonFormatter


def written(formatter: JsonFormatter, message: str = "%s items", *args: Any, **given: Any) -> dict[str, Any]:
    """Return the line that is written for a record."""
    logger = logging.getLogger("shop.stock")
    record = logger.makeRecord(
        "shop.stock", logging.WARNING, "f.py", 1, message, args, given.pop("exc_info", None), **given
    )
    line = formatter.format(record)
    assert "\n" not in line
    return dict(json.loads(line))


def test_record_has_time_level_logger_message_and_process() -> None:
    """A line has the time, level, logger, message and process of the record."""
    told = written(JsonFormatter(service="shop", process=""), "%s items", 3)
    assert datetime.fromisoformat(told.pop("timestamp")).tzinfo is not None
    assert told.pop("pid") > 0
    assert told == {"level": "warning", "logger": "shop.stock", "message": "3 items", "service": "shop"}


def test_extra_fields_replace_none_of_ours() -> None:
    """Fields given by the application are added, and replace none of the formatter's own."""
    told = written(
        JsonFormatter(service="shop"), "x", extra={"order": 5, "when": datetime(2026, 1, 2), "service": "mine"}
    )
    assert (told["order"], told["when"], told["service"]) == (5, "2026-01-02 00:00:00", "shop")


def test_traceback_is_one_value() -> None:
    """The traceback is one value."""
    try:
        raise ValueError("broken")
    except ValueError:
        told = written(JsonFormatter(), "x", exc_info=sys.exc_info())
    assert told["exception"].endswith("ValueError: broken")


class Nasty:
    def __str__(self) -> str:
        raise RuntimeError("no")


CIRCLE: list[Any] = []
CIRCLE.append(CIRCLE)


@pytest.mark.parametrize("value", [Nasty(), CIRCLE, {(1, 2): 3}, {"a": Nasty()}, b"\xff", float("inf")])
def test_value_without_a_json_form_does_not_lose_the_record(value: Any) -> None:
    """A value that has no JSON form, or cannot even be shown as text, does not lose the record."""
    assert written(JsonFormatter(), "x", extra={"value": value})["message"] == "x"

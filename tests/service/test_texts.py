"""Values that are not text, where a `str` is expected."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import pydantic
import pytest

from lightbus.exceptions import ValidationError
from lightbus.service.handlers import Handler
from lightbus.service.parameters import Parameter
from lightbus.service.signature import Signature


def signature(annotation: Any) -> Signature:
    return Signature(kind="RPC", api_name="a", name="f", parameters=[Parameter("it", annotation)], returns=annotation)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (datetime(2026, 1, 2, tzinfo=UTC), "2026-01-02T00:00:00+00:00"),
        (date(2026, 1, 2), "2026-01-02"),
        (time(1, 2), "01:02:00"),
        (timedelta(minutes=1), "PT60S"),
        (Decimal("1.50"), "1.50"),
        (UUID(int=7), "00000000-0000-0000-0000-000000000007"),
        (complex(1, 2), "1+2j"),
        (5, "5"),
        (1.5, "1.5"),
        (True, "True"),
        (b"plain", "plain"),
        ("text", "text"),
    ],
)
@pytest.mark.parametrize("annotation", [str, str | None, Annotated[str, pydantic.Field(max_length=99)]])
def test_values_with_a_text_are_cast_to_text(annotation: Any, value: Any, text: str) -> None:
    """If text is expected: as an argument, a result, an item."""
    assert signature(annotation).cast({"it": value}) == {"it": text}
    assert signature(annotation).cast_result(value) == text
    assert signature(list[annotation]).cast({"it": [value]}) == {"it": [text]}


@pytest.mark.parametrize("value", [[1], {"a": 1}, None, b"\xff"])
@pytest.mark.parametrize("annotation", [str, Annotated[str, pydantic.Field(max_length=99)]])
def test_values_without_a_text_are_refused(annotation: Any, value: Any) -> None:
    """With the same error as before."""
    with pytest.raises(ValidationError, match=r"a\.f: it is .*, but (input should be a valid string|it has no text)"):
        signature(annotation).cast({"it": value})


@pytest.mark.parametrize("value", [datetime(2026, 1, 2, tzinfo=UTC), 5, UUID(int=1)])
def test_union_prefers_a_matching_choice(value: Any) -> None:
    """A value is cast to text only if no choice accepts it."""
    for annotation in (str | type(value), type(value) | str, list[str] | list[type(value)]):  # type: ignore[misc]
        given = [value] if "list" in str(annotation) else value
        assert signature(annotation).cast({"it": given}) == {"it": given}
    assert signature(str | bool).cast({"it": UUID(int=1)}) == {"it": str(UUID(int=1))}


class Strict(pydantic.BaseModel):
    """A model whose author wants text."""

    model_config = pydantic.ConfigDict(strict=True)
    it: str


def test_strict_mode_makes_no_text_of_other_values() -> None:
    """By a setting or by a model; lengths are those of the text."""
    with pytest.raises(ValidationError):
        signature(str).cast({"it": 5}, strict=True)
    with pytest.raises(ValidationError):
        signature(str).cast_result(5, strict=True)
    with pytest.raises(ValidationError):
        signature(Annotated[str, pydantic.Field(max_length=99)]).cast({"it": 5}, strict=True)
    with pytest.raises(ValidationError):
        signature(Strict).cast({"it": {"it": 5}})
    with pytest.raises(ValidationError, match="at most 3 characters"):
        signature(Annotated[str, pydantic.Field(max_length=3)]).cast({"it": 12345})


def test_listener_gets_text() -> None:
    """Like the handlers of 1.x, for which values arrived as text; unless it is strict."""
    from lightbus.message import event_message

    def handle(message: object, when: str) -> None: ...

    message = event_message("shop", "sold", {"when": date(2026, 1, 2)}, 1, "id", "", 1, 0.5, "p", None)
    assert Handler(handle, name="h").arguments(message)[1] == {"when": "2026-01-02"}
    with pytest.raises(ValidationError, match="when"):
        Handler(handle, name="h", strict=True).arguments(message)


def test_the_schema_stays_that_of_text() -> None:
    """Sent values are checked against the declared type."""
    assert signature(str).parameter_schema["properties"]["it"] == {"type": "string"}
    constrained = Annotated[str, pydantic.Field(max_length=3, pattern="a")]
    expected = {"type": "string", "maxLength": 3, "pattern": "a"}
    assert signature(constrained).parameter_schema["properties"]["it"] == expected

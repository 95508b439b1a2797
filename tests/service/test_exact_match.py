"""Values that pass by their exact types, and values that need a further check."""

from __future__ import annotations

from typing import Any

import pytest

from lightbus.service.exact_match import ExactMatch
from lightbus.service.parameters import Parameter, WildcardParameter, empty

PLAIN = ExactMatch([Parameter("name", str), Parameter("age", int, default=0)], None, bool)
LOOSE = ExactMatch([Parameter("name", str)], WildcardParameter(), empty)
COUNTS = ExactMatch([Parameter("name", str)], WildcardParameter(annotation=int), list[int])
DEEP = ExactMatch([Parameter("names", list[str]), Parameter("any", Any)], None, None)


@pytest.mark.parametrize(
    ("match", "kwargs", "passes"),
    [
        (PLAIN, {"name": "ada", "age": 36}, True),
        (PLAIN, {"name": "ada"}, True),  # the missing parameter has a default
        (PLAIN, {"age": 36}, False),
        (PLAIN, {"name": "ada", "age": True}, False),  # True is an int in Python, but no number in a schema
        (PLAIN, {"name": "ada", "age": 36.0}, False),
        (PLAIN, {"name": "ada", "city": "Bern"}, False),
        (PLAIN, {}, False),
        (LOOSE, {"name": "ada", "city": "Bern", "age": 36}, True),
        (LOOSE, {"city": "Bern"}, False),
        (COUNTS, {"name": "ada", "a": 1, "b": 2}, True),
        (COUNTS, {"name": "ada", "a": "1"}, False),
        (DEEP, {"names": ["ada"], "any": object}, False),  # items of a list are checked by the schema
    ],
)
def test_arguments_match_their_annotations_exactly(match: ExactMatch, kwargs: dict[str, Any], passes: bool) -> None:
    """All required ones, no unknown one, and each of a type in its annotation."""
    assert match.arguments(kwargs) is passes
    assert match.arguments_of_all([kwargs, dict(reversed(kwargs.items()))]) is passes


@pytest.mark.parametrize(
    ("match", "others", "passes"),
    [
        (PLAIN, {"name": "eva", "age": 5}, True),
        (PLAIN, {"name": "eva"}, False),  # it passes alone, but its names differ from those of the others
        (PLAIN, {"name": "eva", "year": 5}, False),
        (PLAIN, {"name": "eva", "age": True}, False),
        (LOOSE, {"name": "eva", "age": "5"}, True),
        (LOOSE, {"age": 5, "city": "Bern"}, False),
        (COUNTS, {"name": "eva", "age": 5}, True),
        (COUNTS, {"name": "eva", "age": "5"}, False),
    ],
)
def test_arguments_of_several_events(match: ExactMatch, others: dict[str, Any], passes: bool) -> None:
    """Each passes, and has the same names as the first."""
    first = {"name": "ada", "age": 36}
    assert match.arguments(first)
    assert match.arguments_of_all([first, others, first]) is passes


@pytest.mark.parametrize(
    ("match", "value", "passes"),
    [(PLAIN, True, True), (PLAIN, 1, False), (LOOSE, object(), True), (COUNTS, [1], False), (DEEP, None, True)],
)
def test_result_matches_its_annotation(match: ExactMatch, value: Any, passes: bool) -> None:
    """The annotated type; without an annotation any."""
    assert match.result(value) is passes

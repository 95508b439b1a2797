"""Builtin types are described as by pydantic, without importing it."""

from __future__ import annotations

from datetime import date
from typing import Any, Optional, Union

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import Processes
from lightbus.service.casting import Caster
from lightbus.service.plain_types import plain_schema

SCALARS = st.sampled_from([str, int, float, bool, bytes, None])
PLAIN = st.recursive(
    SCALARS | st.sampled_from([Any, list, dict]),
    lambda inner: st.one_of(
        inner.map(lambda each: list[each]),
        inner.map(lambda each: dict[str, each]),
        st.tuples(inner, inner).map(lambda both: Union[both]),  # noqa: UP007 - of types that are known when it runs
        inner.map(lambda each: Optional[each]),  # noqa: UP045 - `|` is no operator of None
    ),
    max_leaves=4,
)


@given(PLAIN)
def test_plain_schemas_equal_those_of_pydantic(annotation: Any) -> None:
    """In the same words, and the same order of choices."""
    schema = plain_schema(annotation)
    if schema is not None:
        assert schema == Caster({"it": annotation}, what="it").properties["it"]


@pytest.mark.parametrize(
    "annotation",
    [str, None, Any, list[int], dict[str, Any], int | None, None | int | str, Optional[list[dict[str, float]]]],  # noqa: UP045
)
def test_builtin_types_are_described_without_pydantic(annotation: Any) -> None:
    """Builtin types, and lists, dicts and unions of them."""
    assert plain_schema(annotation) == Caster({"it": annotation}, what="it").properties["it"]


class Name(str):
    """A text of its own class."""


@pytest.mark.parametrize("annotation", [date, Name, set[int], tuple[int, ...], dict[int, str], list[date], "str", 5])
def test_other_types_are_left_to_pydantic(annotation: Any) -> None:
    """The result is None."""
    assert plain_schema(annotation) is None


WORKER = """
import sys, lightbus
bus = lightbus.create()
class AuthApi(lightbus.Api):
    registered = lightbus.Event([lightbus.Parameter("name", str), "more"])
    class Meta:
        name = "auth"
    def check(self, name: str, tries: int = 3, more: dict[str, list[int]] | None = None) -> bool:
        return True
bus.client.register_api(AuthApi())
bus.schema.digest("auth")
bus.schema.validate_parameters("auth", "check", {"name": "a", "tries": 1.0})
print("pydantic" in sys.modules)
"""


@pytest.mark.new_interpreters
def test_worker_of_plain_types_does_without_pydantic(processes: Processes) -> None:
    """Announcing and validating an API of builtin types does not import pydantic."""
    process = processes.python("-c", WORKER)
    assert process.wait() == 0, process.stderr
    assert process.stdout.strip() == "False"

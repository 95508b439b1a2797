"""Schemas of APIs that are declared elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightbus.exceptions import InvalidSchema, ValidationError
from lightbus.service.foreign import ForeignApi, parse, read_file

AUTH = {
    "rpcs": {
        "check": {
            "parameters": {"type": "object", "properties": {"user": {"type": "string"}}, "required": ["user"]},
            "response": {"type": "boolean"},
        }
    },
    "events": {"registered": {"parameters": {"type": "object", "additionalProperties": False}}},
}


def test_procedures_and_events_are_found_by_name() -> None:
    """Each has its given schemas."""
    api = ForeignApi("auth", AUTH)
    assert api.rpcs["check"].response_schema == {"type": "boolean"}
    assert api.events["registered"].parameter_schema == {"type": "object", "additionalProperties": False}
    assert api.events["registered"].response_schema is None


def test_arguments_and_results_are_validated() -> None:
    """The JSON Schema decides, and the error names the procedure."""
    check = ForeignApi("auth", AUTH).rpcs["check"]
    check.validate({"user": "a", "more": 1})
    check.validate_response(True)
    with pytest.raises(ValidationError, match=r"auth\.check: user is 5, but"):
        check.validate({"user": 5})
    with pytest.raises(ValidationError, match=r"the result of auth\.check is not satisfied: it is 1, but"):
        check.validate_response(1)


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        ([], "not an object with the keys"),
        ({"procedures": {}}, "not an object with the keys"),
        ({"rpcs": []}, "its 'rpcs' is no object"),
        ({"rpcs": {"check": {"parameters": {}}}}, "'check' does not have exactly the keys parameters, response"),
        ({"events": {"e": {"parameters": {}, "response": {}}}}, "'e' does not have exactly the keys parameters"),
        ({"events": {"e": {"parameters": {"type": 5}}}}, r"The schema of auth\.e is not a valid JSON Schema"),
    ],
)
def test_other_forms_are_refused(schema: Any, message: str) -> None:
    """A form that `dumpschema` does not write is refused, naming the API and the fault."""
    with pytest.raises(InvalidSchema, match=message):
        ForeignApi("auth", schema)


def test_the_name_must_be_that_of_an_api() -> None:
    """A name that could leave a directory is invalid."""
    with pytest.raises(InvalidSchema, match="cannot be the name of an Api"):
        ForeignApi("../etc/passwd", AUTH)


def test_a_file_has_one_api_or_several(tmp_path: Path) -> None:
    """A file named like its API, or with APIs by name."""
    one, several = tmp_path / "auth.json", tmp_path / "all.json"
    one.write_text(json.dumps(AUTH))
    several.write_text(json.dumps({"auth": AUTH, "shop.orders": {"events": {}}}))
    assert [api.api_name for api in read_file(one)] == ["auth"]
    assert [api.api_name for api in read_file(several)] == ["auth", "shop.orders"]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"auth": 5}', b"[" * 100_000])
def test_a_broken_file_is_named(tmp_path: Path, content: bytes) -> None:
    """For any fault, the error names the file."""
    file = tmp_path / "auth.json"
    file.write_bytes(content)
    with pytest.raises(InvalidSchema, match=r"The schema file .*auth\.json cannot be used: "):
        list(read_file(file))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """It is an InvalidSchema, too."""
    with pytest.raises(InvalidSchema, match=r"nowhere\.json"):
        list(read_file(tmp_path / "nowhere.json"))


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["rpcs", "events", "a", "parameters", "response"]), inner)
    ),
)


@given(_json.map(json.dumps) | st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    """Any text gives schemas or an InvalidSchema."""
    try:
        apis = list(parse(text, name="stem"))
    except InvalidSchema:
        return
    assert all(isinstance(api, ForeignApi) for api in apis)

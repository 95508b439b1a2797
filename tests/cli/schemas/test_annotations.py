"""Python annotations of schemas: given, returned and heard."""

from __future__ import annotations

import datetime
import decimal
import enum
import uuid
from dataclasses import dataclass
from typing import Any, Literal, TypedDict

import pytest

from lightbus.cli.schemas.annotations import Annotations, Form, as_text, docstring, is_plain_name
from lightbus.service.parameters import Parameter
from lightbus.service.signature import Signature


class Role(enum.Enum):
    ADMIN = "admin"
    USER = "user"


@dataclass
class User:
    """A user."""

    name: str
    born: datetime.date
    friends: list[User]
    role: Role = Role.USER


class Options(TypedDict, total=False):
    a: int


def schema_of(annotation: Any) -> Any:
    signature = Signature(kind="RPC", api_name="auth", name="f", parameters=[Parameter("it", annotation)])
    schema = signature.parameter_schema
    return {**schema["properties"]["it"], "$defs": schema.get("$defs", {})}


FORMS = [
    (int, "int", "int", "int"),
    (int | None, "int | None", "int | None", "int | None"),
    (Any, "Any", "Any", "Any"),
    (datetime.date, "_dt.date", "_dt.date", "_dt.date"),
    (datetime.timedelta, "_dt.timedelta", "_dt.timedelta", "_dt.timedelta"),
    (uuid.UUID, "UUID", "UUID", "UUID"),
    (decimal.Decimal, "Decimal | float", "Decimal", "Decimal"),
    (bytes, "bytes", "bytes", "bytes"),
    (complex, "complex", "complex", "complex"),
    (list[int], "Sequence[int]", "list[int]", "Any"),
    (list[str], "list[str] | tuple[str, ...]", "list[str]", "Any"),
    (set[int], "Sequence[int] | Set[int]", "list[int]", "Any"),
    (tuple[int, str], "tuple[int, str] | list[int | str]", "list[int | str]", "Any"),
    (dict[str, float], "Mapping[Any, float]", "dict[str, float]", "Any"),
    (Literal["a | [b", 1], 'Literal["a | [b", 1]', 'Literal["a | [b", 1]', "str | int"),
    (Role, "Role | Enum", "Role", "Any"),
    (User, "User | UserLike", "User", "Any"),
    (list[User] | None, "Sequence[User | UserLike] | None", "list[User] | None", "Any"),
    (Options, "Options | OptionsLike", "Options", "Any"),
]


@pytest.mark.parametrize(("annotation", "given", "returned", "heard"), FORMS)
def test_annotation_depends_on_the_direction(annotation: Any, given: str, returned: str, heard: str) -> None:
    """Callers may pass all accepted forms, results have the wire form, listeners choose their own classes."""
    schema = schema_of(annotation)
    forms = [Annotations().of(schema, form, prefix="Auth") for form in (Form.GIVEN, Form.RETURNED, Form.HEARD)]
    assert forms == [given, returned, heard]


def test_class_is_written_once_with_optional_fields_marked() -> None:
    """Each class once, with optional fields marked, and with a protocol for objects."""
    annotations = Annotations()
    for prefix in ("Auth", "Shop"):
        assert annotations.of(schema_of(User), Form.RETURNED, prefix=prefix) == "User"
    text = "\n".join(annotations.definitions())
    assert text.count("class User(TypedDict):") == text.count("class UserLike(Protocol):") == 1
    assert "born: _dt.date" in text
    assert "role: NotRequired[Role]" in text
    assert 'Role: TypeAlias = Literal["admin", "user"]' in text
    assert "import datetime as _dt" in "\n".join(annotations.header())


def test_two_classes_of_one_name() -> None:
    """The second has the place it is from in its name."""
    annotations = Annotations(taken={"ShopUser"})
    annotations.of(schema_of(User), Form.RETURNED, prefix="Auth")
    other = {"$ref": "#/$defs/User", "$defs": {"User": {"type": "object", "properties": {"id": {"type": "integer"}}}}}
    assert annotations.of(other, Form.RETURNED, prefix="Shop") == "ShopUser2"
    assert annotations.of(other, Form.GIVEN, prefix="Mail") == "ShopUser2 | ShopUser2Like"


STRANGE = [
    ({"$ref": "#/$defs/Gone"}, "anything"),
    ({"$ref": "#/$defs/A", "$defs": {"A": {"anyOf": [{"$ref": "#/$defs/A"}]}}}, "anything"),
    ({"allOf": [{"type": "integer"}]}, "anything"),
    ({"type": "object", "properties": {"a-b": {}}, "required": ["a-b"]}, "dict[str, Any]"),
    ({"enum": [None, 1.5, {}]}, "anything"),
    ({"const": 'a"]'}, r'Literal["a\"]"]'),
    ({"type": "integer", "format": "date"}, "int"),
    (True, "anything"),
    (False, "nothing"),
]


@pytest.mark.parametrize(("schema", "text"), STRANGE)
def test_what_others_wrote(schema: Any, text: str) -> None:
    """A schema without an equivalent in Python gives `Any`, and nothing wrong."""
    assert as_text(schema) == text


def test_words_of_others() -> None:
    """Docstrings are text and nothing else, and keywords no names."""
    assert eval("\n".join(docstring('Ends "so"\n\nand \\n """', ""))) == 'Ends "so"\n\nand \\n """\n'
    assert docstring("  ") == []
    assert [is_plain_name(name) for name in ("a", "class", "a-b", "self")] == [True, False, False, False]

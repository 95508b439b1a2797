"""AsyncAPI documents."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest

from lightbus.cli.schemas.gathering import DescribedApi
from lightbus.cli.specifications.asyncapi import asyncapi_document

PUBLISHED = Path(__file__).parent / "asyncapi-3.0.0.json"


@functools.cache
def published() -> jsonschema_rs.Validator:
    """Return the schema that AsyncAPI publishes."""
    return jsonschema_rs.validator_for(json.loads(PUBLISHED.read_text("utf-8")))


def valid(apis: dict[str, DescribedApi], **options: Any) -> dict[str, Any]:
    """Return the document, which satisfies that schema."""
    document: dict[str, Any] = json.loads(json.dumps(asyncapi_document(apis, title="all", **options)))
    published().validate(document)
    return document


def followed(document: dict[str, Any], reference: dict[str, str]) -> Any:
    """Return the target of a reference, which must exist."""
    found: Any = document
    for step in reference["$ref"].removeprefix("#/").split("/"):
        found = found[step]
    return followed(document, found) if isinstance(found, dict) and "$ref" in found else found


def references(value: Any) -> list[dict[str, str]]:
    """Return all references in a document."""
    if isinstance(value, list):
        return [each for part in value for each in references(part)]
    if not isinstance(value, dict):
        return []
    return [*([value] if isinstance(value.get("$ref"), str) else []), *references([*value.values()])]


def test_it_is_valid(apis: dict[str, DescribedApi]) -> None:
    """By the published schema; each reference leads somewhere; a broken document is none."""
    document = valid(apis)
    assert references(document)
    for reference in references(document):
        followed(document, reference)
    del document["channels"]["shop.orders.place"]["messages"]["arguments"]["$ref"]
    document["operations"]["shop.orders.place"]["action"] = "call"
    with pytest.raises(jsonschema_rs.ValidationError):
        published().validate(document)


def test_procedure_receives_arguments_and_replies_with_the_result(apis: dict[str, DescribedApi]) -> None:
    """Who serves it receives the arguments, and replies with the result."""
    document = valid(apis)
    operation = document["operations"]["shop.orders.place"]
    assert (operation["action"], operation["summary"]) == ("receive", "Place an order.")
    assert followed(document, operation["channel"])["address"] == "shop.orders.place"
    [arguments], [result] = operation["messages"], operation["reply"]["messages"]
    payload = followed(document, arguments)["payload"]
    assert [*payload["properties"]] == ["user", "kind", "price", "pet"]
    assert payload["properties"]["kind"] == {"allOf": [{"$ref": "#/components/schemas/Kind"}], "default": "plain"}
    assert followed(document, result)["payload"]["items"] == [{"type": "integer"}, {"type": "string"}]
    assert "description" not in payload


def test_event_is_sent_by_the_server_of_its_api(apis: dict[str, DescribedApi]) -> None:
    """The servers of the API send it; its delivery is given if it is known."""
    document = valid(apis)
    placed = document["operations"]["shop.orders.placed"]
    assert (placed["action"], placed["x-lightbus-delivery"], placed["x-lightbus-key"]) == (
        "send",
        "at_least_once",
        "at",
    )
    user = followed(document, placed["messages"][0])["payload"]["properties"]["user"]
    assert followed(document, user)["properties"]["friends"]["items"] == user
    assert "x-lightbus-delivery" not in document["operations"]["other.b"]


def test_titles_and_versions(apis: dict[str, DescribedApi]) -> None:
    """The version is that of the only API, or the given one."""
    assert valid(apis)["info"] == {
        "title": "all",
        "version": "3",
        "tags": [{"name": "other"}, {"name": "shop.orders", "description": "Orders, and who placed them."}],
    }
    assert valid({"other": apis["other"]})["info"]["version"] == "1"
    assert valid(apis, version="2026.1")["info"]["version"] == "2026.1"

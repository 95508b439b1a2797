"""OpenAPI documents."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator
from openapi_spec_validator.validation.exceptions import OpenAPIValidationError

from lightbus.cli.schemas.gathering import DescribedApi
from lightbus.cli.specifications.openapi import openapi_document


def valid(apis: dict[str, DescribedApi], **options: Any) -> dict[str, Any]:
    """Return the document, which a published validator finds no fault with."""
    document: dict[str, Any] = json.loads(json.dumps(openapi_document(apis, title="all", **options)))
    OpenAPIV31SpecValidator(document).validate()
    return document


def test_it_is_valid(apis: dict[str, DescribedApi]) -> None:
    """A document with a fault is none."""
    document = valid(apis)
    document["paths"]["/shop.orders/place"]["post"]["responses"] = 3
    with pytest.raises(OpenAPIValidationError):
        OpenAPIV31SpecValidator(document).validate()


def test_procedure_is_a_post_of_its_arguments(apis: dict[str, DescribedApi]) -> None:
    """Is a POST of its arguments, answered by its result or by an error."""
    document = valid(apis, servers=["https://api.example.com"])
    post = document["paths"]["/shop.orders/place"]["post"]
    assert (post["operationId"], post["tags"]) == ("shop.orders.place", ["shop.orders"])
    assert (post["summary"], post["description"]) == ("Place an order.", "Place an order.\n\nIt is not placed twice.")
    body = post["requestBody"]
    assert body["required"]
    schema = body["content"]["application/json"]["schema"]
    assert schema["properties"]["user"] == {"$ref": "#/components/schemas/User"}
    pets = schema["properties"]["pet"]["anyOf"][0]["discriminator"]["mapping"]
    assert pets == {"cat": "#/components/schemas/Cat", "dog": "#/components/schemas/Dog"}
    assert post["responses"]["200"]["content"]["application/json"]["schema"]["prefixItems"][0] == {"type": "integer"}
    assert post["responses"]["default"] == {"$ref": "#/components/responses/Error"}
    assert document["servers"] == [{"url": "https://api.example.com"}]
    assert not document["paths"]["/other/a"]["post"]["requestBody"]["required"]


def test_event_is_a_webhook(apis: dict[str, DescribedApi]) -> None:
    """Is a webhook."""
    hook = valid(apis)["webhooks"]["shop.orders.placed"]["post"]
    assert hook["x-lightbus-key"] == "at"
    assert [*hook["requestBody"]["content"]["application/json"]["schema"]["properties"]] == ["user", "at"]

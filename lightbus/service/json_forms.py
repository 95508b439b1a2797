"""JSON Schemas of values as the bus carries them, made from pydantic's core schemas."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from enum import Flag
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from ..typing import JsonSchema
from ..wire.codec import json_form
from .format_names import COMPLEX, DECIMAL
from .from_wire import names_read
from .texts import is_text

__all__ = ["json_schema_of"]


def json_schema_of(core_schema: Any) -> JsonSchema:
    """Return the JSON Schema of the values that a core schema, changed by `from_wire`, accepts."""
    schema = _BusJsonSchema().generate(core_schema, mode="validation")
    _name_keys_in_text(schema, schema.get("$defs", {}))
    return schema


class _BusJsonSchema(GenerateJsonSchema):
    def __init__(self) -> None:
        super().__init__(by_alias=True)
        self.ignored_warning_kinds = {"skipped-choice", "non-serializable-default"}

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {}

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def decimal_schema(self, schema: Any) -> JsonSchemaValue:
        # pydantic's pattern refuses exponents, which str(Decimal) writes.
        form = super().decimal_schema(schema)
        for choice in form.get("anyOf", ()):
            choice.pop("pattern", None)
            if choice.get("type") == "string":
                choice["format"] = DECIMAL
        return form

    def complex_schema(self, schema: Any) -> JsonSchemaValue:
        return {"type": "string", "format": COMPLEX}

    def named_tuple_schema(self, schema: Any) -> JsonSchemaValue:
        # On the bus a NamedTuple is a dict; inside of a model it is an array, as in pydantic.
        form = super().named_tuple_schema(schema)
        names = [field["name"] for field in schema["fields"]]
        properties = dict(zip(names, form.get("prefixItems", ()), strict=True))
        required = names[: form.get("minItems", 0)]
        return {**form, "type": ["object", "array"], "properties": properties, "required": required}

    def arguments_schema(self, schema: Any) -> JsonSchemaValue:
        # The same for earlier releases of pydantic, which treat a NamedTuple as the arguments of its class.
        without_preference: Any = {**schema, "metadata": {}}
        form = super().arguments_schema(without_preference)
        properties = form.get("properties", {})
        if form.get("type") != "object" or not form.keys() >= {"properties"}:
            return form
        sizes = {"minItems": len(form.get("required", ())), "maxItems": len(properties)}
        return {**form, "type": ["object", "array"], "prefixItems": [*properties.values()], **sizes}

    def enum_schema(self, schema: Any) -> JsonSchemaValue:
        if issubclass(schema["cls"], Flag):  # its values are sums of members
            return {"title": schema["cls"].__name__, "type": "integer"}
        members = schema["members"]
        if all(isinstance(member.value, (str, int, float)) for member in members):
            return super().enum_schema(schema)
        return {"title": schema["cls"].__name__, "enum": [json_form(member) for member in members]}

    def literal_schema(self, schema: Any) -> JsonSchemaValue:
        if all(isinstance(value, (str, int)) for value in schema["expected"]):
            return super().literal_schema(schema)
        return {"enum": [json_form(value) for value in schema["expected"]]}

    def lax_or_strict_schema(self, schema: Any) -> JsonSchemaValue:
        return self.str_schema(schema["strict_schema"]) if is_text(schema) else super().lax_or_strict_schema(schema)

    # A field may have several names: one for reading and one for writing, or a choice of them.

    def model_fields_schema(self, schema: Any) -> JsonSchemaValue:
        return self._with_all_names(super().model_fields_schema(schema), schema["fields"])

    def typed_dict_schema(self, schema: Any) -> JsonSchemaValue:
        return self._with_all_names(super().typed_dict_schema(schema), schema["fields"])

    def dataclass_args_schema(self, schema: Any) -> JsonSchemaValue:
        fields = {field["name"]: field for field in schema["fields"]}
        return self._with_all_names(super().dataclass_args_schema(schema), fields)

    def _with_all_names(self, form: JsonSchemaValue, fields: Mapping[str, Any]) -> JsonSchemaValue:
        properties, alternatives = form.get("properties", {}), []
        required = [*form.get("required", ())]
        for name, field in fields.items():
            paths = names_read(field, name)
            main = next((path[0] for path in paths if len(path) == 1), name)
            if len(paths) == 1 or main not in properties:
                continue
            for path in paths:
                properties.setdefault(str(path[0]), properties[main] if len(path) == 1 else {})
            if main in required:
                required.remove(main)
                alternatives.append({"anyOf": [{"required": [each]} for each in _first_names(paths)]})
        changed = {**form, "properties": properties} if properties else form
        if not alternatives:
            return changed
        changed.pop("required", None)
        return {**changed, **({"required": required} if required else {}), "allOf": alternatives}


def _first_names(paths: Iterable[list[str | int]]) -> list[str]:
    return [*dict.fromkeys(str(path[0]) for path in paths)]


def _name_keys_in_text(schema: Any, definitions: Mapping[str, Any]) -> None:
    """Describe the keys of dicts as text, as in JSON: keys of an IntEnum are "1" and "2"."""
    if isinstance(schema, list):
        for part in schema:
            _name_keys_in_text(part, definitions)
    if not isinstance(schema, dict):
        return
    for part in schema.values():
        _name_keys_in_text(part, definitions)
    reference = schema.get("propertyNames")
    if schema.get("type") == "object" and isinstance(reference, dict) and isinstance(reference.get("$ref"), str):
        keys = definitions.get(reference["$ref"].rpartition("/")[2], {})
        if "enum" in keys:
            texts = [each if isinstance(each, str) else json.dumps(each) for each in keys["enum"]]
            schema["propertyNames"] = {"enum": texts}
        elif keys.get("type") != "string":
            del schema["propertyNames"]

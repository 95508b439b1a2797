"""The schemas that this process knows: of Apis declared here, and of those read from files or received from peers.

Arguments for a declared Api are checked by its signatures (`signature.py`), for all others by the JSON Schema alone.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from ..exceptions import SchemaNotFound, did_you_mean
from ..typing import JsonSchema, Kwargs
from .api import Api
from .foreign import ForeignApi, ForeignSignature, parse, read_file
from .forks import CHANGING
from .signature import Signature

__all__ = ["Schema"]

_KINDS = ("rpcs", "events")

# 48 bits: enough to see that two schemas differ, short enough for an announcement.
_DIGEST_DIGITS = 12


class Schema:
    """
    The schemas of APIs: `bus.schema`.

    The schema of one API is

        {"rpcs": {name: {"parameters": ..., "response": ...}}, "events": {name: {"parameters": ...}}}

    with each part in JSON Schema, draft 2020-12. Changes replace a dict as a whole: other threads may read at any time.

    Arguments:
        human_readable: write files with indentation.

    """

    def __init__(self, *, human_readable: bool = True) -> None:
        self.human_readable = human_readable
        self._declared: dict[str, Api] = {}
        self._foreign: dict[str, ForeignApi] = {}

    def add_api(self, api: Api) -> None:
        """Add a declared Api; it takes precedence over a loaded schema of the same name."""
        with CHANGING:
            self._declared = {**self._declared, api.meta.name: api}

    def remove_api(self, api: Api | str) -> None:
        """Remove a declared Api; a loaded schema of the same name counts again. Unknown names are ignored."""
        gone = api if isinstance(api, str) else api.meta.name
        with CHANGING:
            self._declared = {name: each for name, each in self._declared.items() if name != gone}

    def add_foreign(self, api_name: str, schema: Any) -> None:
        """
        Add the schema of an API that is declared elsewhere.

        Raises:
            InvalidSchema: it is not in the form given above, or a part of it is not a JSON Schema.

        """
        foreign = ForeignApi(api_name, schema)
        with CHANGING:
            self._foreign = {**self._foreign, api_name: foreign}

    def knows(self, api_name: str) -> bool:
        """Return whether the schema of this API is known."""
        return api_name in self._declared or api_name in self._foreign

    @property
    def api_names(self) -> list[str]:
        """The names of all APIs known."""
        return sorted({*self._declared, *self._foreign})

    @property
    def rpcs(self) -> list[tuple[str, str]]:
        """All procedures known, as `(api_name, procedure_name)`."""
        return [(api, name) for api in self.api_names for name in self._members(api, "rpcs")]

    @property
    def events(self) -> list[tuple[str, str]]:
        """All events known, as `(api_name, event_name)`."""
        return [(api, name) for api in self.api_names for name in self._members(api, "events")]

    def get_api_schema(self, api_name: str) -> JsonSchema:
        """
        Return the schema of an API, in the form given above.

        Raises:
            SchemaNotFound: none is known; the message says what is.

        """
        return {
            kind: {name: _parts(signature) for name, signature in self._members(api_name, kind).items()}
            for kind in _KINDS
        }

    def get_rpc_schema(self, api_name: str, name: str) -> JsonSchema:
        """
        Return `{"parameters": ..., "response": ...}` of a procedure.

        Raises:
            SchemaNotFound: none is known; the message says what is.

        """
        return _parts(self._signature(api_name, name, kinds=("rpcs",)))

    def get_event_schema(self, api_name: str, name: str) -> JsonSchema:
        """
        Return `{"parameters": ...}` of an event.

        Raises:
            SchemaNotFound: none is known; the message says what is.

        """
        return _parts(self._signature(api_name, name, kinds=("events",)))

    def validate_parameters(self, api_name: str, name: str, kwargs: Kwargs) -> None:
        """
        Check the arguments for a procedure or an event.

        Raises:
            InvalidParameters, InvalidEventArguments: a name is unknown or missing.
            ValidationError: an argument does not satisfy the schema.
            SchemaNotFound: none is known.

        """
        self._signature(api_name, name, kinds=_KINDS).validate(kwargs)

    def validate_event(self, api_name: str, name: str, kwargs: Kwargs) -> None:
        """
        Check the arguments of an event as a listener does: arguments unknown to the schema are ignored.

        Raises:
            InvalidEventArguments: an argument is missing.
            ValidationError: an argument does not satisfy the schema.
            SchemaNotFound: none is known.

        """
        self._signature(api_name, name, kinds=("events",)).validate_received(kwargs)

    def validate_response(self, api_name: str, name: str, value: Any) -> None:
        """
        Check the result of a procedure.

        Raises:
            ValidationError: it does not satisfy the schema.
            SchemaNotFound: none is known.

        """
        self._signature(api_name, name, kinds=("rpcs",)).validate_response(value)

    def digest(self, api_name: str) -> str:
        """
        Return a short hash of an API's schema: equal in all processes that have the same schema.

        Raises:
            SchemaNotFound: none is known.

        """
        canonical = json.dumps(self.get_api_schema(api_name), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:_DIGEST_DIGITS]

    def load_local(self, source: str | Path | TextIO | None = None) -> None:
        """
        Add the schemas that `dumpschema` wrote. Either all are added or, after an error, none.

        Arguments:
            source: a file, a directory with a file per API, an open text file, or None for standard input.

        Raises:
            InvalidSchema: a file cannot be read, or is not a schema; the message names the file.

        """
        if isinstance(source, (str, Path)):
            path = Path(source)
            files = sorted(path.glob("*.json")) if path.is_dir() else [path]
            apis = [api for file in files for api in read_file(file)]
        else:
            apis = list(parse((source or sys.stdin).read(), name="stdin"))
        with CHANGING:
            self._foreign = {**self._foreign, **{api.api_name: api for api in apis}}

    def save_local(self, destination: str | Path | TextIO | None = None) -> None:
        """
        Write the schemas of all known APIs.

        Arguments:
            destination: a directory, which gets a file per API (`auth.json`); a file, which gets all of them by name;
                an open text file; or None for standard output.

        """
        schemas = {name: self.get_api_schema(name) for name in self.api_names}
        if isinstance(destination, (str, Path)):
            path = Path(destination)
            per_api = {path / f"{name}.json": schema for name, schema in schemas.items()}
            files = per_api if path.is_dir() else {path: schemas}
            for file, content in files.items():
                file.write_text(self._json(content), "utf-8")
        else:
            (destination or sys.stdout).write(self._json(schemas))

    def _json(self, content: JsonSchema) -> str:
        return json.dumps(content, indent=4 if self.human_readable else None, sort_keys=True) + "\n"

    def _members(self, api_name: str, kind: str) -> Mapping[str, Signature | ForeignSignature]:
        api = self._declared.get(api_name)
        if api is not None:
            declared = api.procedures if kind == "rpcs" else api.events
            return {name: each.signature for name, each in declared.items()}
        foreign = self._foreign.get(api_name)
        if foreign is None:
            raise SchemaNotFound(_not_known("API", api_name, self.api_names))
        return foreign.rpcs if kind == "rpcs" else foreign.events

    def _signature(self, api_name: str, name: str, *, kinds: Iterable[str]) -> Signature | ForeignSignature:
        known: dict[str, Signature | ForeignSignature] = {}
        for kind in kinds:
            known.update(self._members(api_name, kind))
        if name not in known:
            raise SchemaNotFound(_not_known(f"member of the API '{api_name}'", name, known))
        return known[name]


def _parts(signature: Signature | ForeignSignature) -> JsonSchema:
    response = signature.response_schema
    parameters = {"parameters": signature.parameter_schema}
    return parameters if response is None else {**parameters, "response": response}


def _not_known(what: str, name: str, known: Iterable[str]) -> str:
    names = sorted(known)
    there = ", ".join(names) or "none"
    return (
        f"No schema is known of the {what} named '{name}'.{did_you_mean(name, names)} Known: {there}. "
        "Register the Api, or load what `lightbus dumpschema` wrote where it is declared."
    )

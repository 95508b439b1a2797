"""The differences between two schemas of an API, and which programs each of them breaks.

Old callers send their arguments to new workers, and get new results; publishers send the arguments of an event, and
listeners get them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...typing import JsonSchema
from .annotations import as_text
from .inclusion import includes

__all__ = ["SchemaChange", "breaking", "changes"]

_KINDS = {"rpcs": "procedure", "events": "event"}
_SENDERS = {"rpcs": "callers", "events": "publishers"}
_NOTHING: JsonSchema = {"rpcs": {}, "events": {}}
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemaChange:
    """
    One difference.

    Attributes:
        api: the API.
        member: the procedure or event; None for the whole API.
        kind: "procedure", "event" or "api".
        change: the difference, in words.
        breaks: "callers", "publishers" (programs that fire the event), "listeners"; empty if compatible.

    """

    api: str
    member: str | None
    kind: str
    change: str
    breaks: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the changed member, `auth.check_password`, or of the API."""
        return self.api if self.member is None else f"{self.api}.{self.member}"

    def __str__(self) -> str:
        verdict = f"breaks {' and '.join(self.breaks)}" if self.breaks else "compatible"
        return f"{self.name}: {self.change} ({verdict})"


def changes(old: Mapping[str, JsonSchema], new: Mapping[str, JsonSchema]) -> list[SchemaChange]:
    """Return all differences between schemas by API, sorted by API and member."""
    return [each for api in sorted({**old, **new}) for each in _of_api(api, old.get(api), new.get(api))]


def _of_api(api: str, old: JsonSchema | None, new: JsonSchema | None) -> Iterator[SchemaChange]:
    if old is None or new is None:
        whole = old or new or _NOTHING
        touched = (*(("callers",) if whole.get("rpcs") else ()), *(_of_events() if whole.get("events") else ()))
        yield SchemaChange(
            api=api,
            member=None,
            kind="api",
            change="the API is new" if old is None else "the API is gone",
            breaks=() if old is None else touched,
        )
        return
    for kind, word in _KINDS.items():
        before, after = old.get(kind, {}), new.get(kind, {})
        for name in sorted({**before, **after}):
            for text, breaks in _of_member(kind, before.get(name), after.get(name)):
                yield SchemaChange(api=api, member=name, kind=word, change=text, breaks=breaks)


def _of_events() -> tuple[str, ...]:
    return "publishers", "listeners"


def _of_member(kind: str, old: JsonSchema | None, new: JsonSchema | None) -> Iterator[tuple[str, tuple[str, ...]]]:
    word = _KINDS[kind]
    if old is None or new is None:
        gone = ("callers",) if kind == "rpcs" else _of_events()
        yield (f"the {word} is new", ()) if old is None else (f"the {word} is gone", gone)
        return
    before, after = _Parameters(old["parameters"]), _Parameters(new["parameters"])
    for name in {**before.properties, **after.properties}:
        yield from _of_parameter(kind, name, before, after)
    yield from _of_rest(kind, before, after)
    if kind == "rpcs":
        yield from _of_result(old.get("response", {}), new.get("response", {}))
    if before.description != after.description:
        yield "the docstring is another one", ()


class _Parameters:
    """The parameters of a procedure or an event, each schema with the definitions that it may use."""

    def __init__(self, schema: Any) -> None:
        whole = schema if isinstance(schema, dict) else {}
        self._definitions = whole.get("$defs", {})
        self.properties = {name: self._whole(each) for name, each in whole.get("properties", {}).items()}
        self.required = {*whole.get("required", ())}
        self.rest = self._whole(whole.get("additionalProperties", schema is not False))
        self.description = whole.get("description", "")

    def _whole(self, schema: Any) -> Any:
        return {**schema, "$defs": self._definitions} if isinstance(schema, dict) and self._definitions else schema


def _of_parameter(
    kind: str, name: str, before: _Parameters, after: _Parameters
) -> Iterator[tuple[str, tuple[str, ...]]]:
    senders, listeners = (_SENDERS[kind],), ("listeners",) if kind == "events" else ()
    old, new = before.properties.get(name, _ABSENT), after.properties.get(name, _ABSENT)
    is_required = name in after.required
    if old is _ABSENT:
        how = "needed" if is_required else "optional"
        yield f"the parameter '{name}' is new, and {how}", senders if is_required else ()
        return
    if new is _ABSENT:
        yield f"the parameter '{name}' is gone", (senders if after.rest is False else ()) + listeners
        return
    if is_required != (name in before.required):
        yield f"the parameter '{name}' is {'needed' if is_required else 'optional'} now", senders if is_required else ()
    narrower, wider = not includes(new, old), not includes(old, new)
    if narrower or wider:
        breaks = (senders if narrower else ()) + (listeners if wider else ())
        yield f"the parameter '{name}' {_another(old, new)}", breaks
    elif _default(old) != _default(new) and not is_required and name not in before.required:
        yield f"the default of '{name}' is {_default(new)}, was {_default(old)}", ()


def _of_rest(kind: str, before: _Parameters, after: _Parameters) -> Iterator[tuple[str, tuple[str, ...]]]:
    if not includes(after.rest, before.rest):
        yield "further arguments are not accepted any more, or narrower ones only", (_SENDERS[kind],)
    elif not includes(before.rest, after.rest):
        yield "further arguments are accepted", ()


def _of_result(old: Any, new: Any) -> Iterator[tuple[str, tuple[str, ...]]]:
    wider, narrower = not includes(old, new), not includes(new, old)
    if wider or narrower:
        yield f"the result {_another(old, new)}", ("callers",) if wider else ()


def _another(old: Any, new: Any) -> str:
    before, after = as_text(old), as_text(new)
    return f"is {after}, was {before}" if before != after else f"is {after} of another form"


def _default(schema: Any) -> str:
    return repr(schema["default"]) if isinstance(schema, dict) and "default" in schema else "not said"


def breaking(found: Sequence[SchemaChange]) -> int:
    """Return how many of the changes are breaking."""
    return sum(bool(each.breaks) for each in found)

"""The APIs on a bus as HTML pages: one for each API, and an index.

They load nothing from other sites. All texts come from peers and may contain any character, so each is escaped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ...typing import JsonSchema
from ..schemas.annotations import as_text
from ..schemas.gathering import DescribedApi
from .asyncapi import asyncapi_document
from .definitions import key
from .openapi import openapi_document
from .words import split_doc

__all__ = ["MARK", "site_files"]

MARK = '<meta name="generator" content="lightbus docs">'
"""Marks a page as written by this command."""

_HEAD = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'self'; img-src data:">
{MARK}
"""

STYLE = """\
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --link: light-dark(#0b57d0, #8ab4f8) }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 1rem 1.25rem 4rem; max-width: 60rem }
h1, h2, h3 { line-height: 1.25 } h1 { font-size: 1.8rem } h2 { margin-top: 2.5rem } h3 { margin: 2rem 0 .5rem }
a { color: var(--link) } h3 a { color: inherit; text-decoration-style: dotted }
h3 a:first-child { text-decoration: none }
code, h3 { font-family: ui-monospace, monospace; font-size: .95em; overflow-wrap: anywhere }
h3 { background: var(--soft); border-radius: .3rem; padding: .4rem .6rem; font-weight: 500 }
.doc { white-space: pre-wrap; margin: .5rem 0 } .remarks { opacity: .75 }
.wide { overflow-x: auto } table { border-collapse: collapse; min-width: 60% }
th, td { text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); padding: .3rem .9rem .3rem 0 }
footer { margin-top: 4rem; opacity: .75; font-size: .9em } :target { outline: 2px solid var(--link) }
@media print { a { color: inherit } h3 { break-after: avoid } }
"""


def site_files(apis: Mapping[str, DescribedApi], *, title: str) -> dict[str, str]:
    """Return the files of a site by their paths in it: pages, their style, and the documents in other forms."""
    names = _file_names(apis)
    documents = {
        "asyncapi.json": asyncapi_document(apis, title=title),
        "openapi.json": openapi_document(apis, title=title),
    }
    return {
        "index.html": "".join(_index(apis, names, title)),
        "style.css": STYLE,
        **{f"apis/{names[name]}": "".join(_api_page(apis[name], title)) for name in sorted(apis)},
        **{name: json.dumps(each, indent=2, ensure_ascii=False) + "\n" for name, each in documents.items()},
    }


def _file_names(apis: Iterable[str]) -> dict[str, str]:
    names: dict[str, str] = {}
    for name in sorted(apis):
        choices = (f"{key(name)}{'' if number == 1 else f'.{number}'}.html" for number in range(1, 10_000))
        names[name] = next(each for each in choices if each.lower() not in {*map(str.lower, names.values())})
    return names


def _index(apis: Mapping[str, DescribedApi], names: Mapping[str, str], title: str) -> Iterator[str]:
    yield from (_HEAD, f'<title>{escape(title)}</title>\n<link rel="stylesheet" href="style.css">\n</head>\n<body>\n')
    yield f"<h1>{escape(title)}</h1>\n"
    rows = []
    for name, api in sorted(apis.items()):
        link = f'<a href="apis/{escape(names[name])}">{escape(name)}</a>'
        rows.append((link, _version(api), escape(_first(api.doc)), escape(", ".join(api.services))))
    yield from _table(("API", "Version", "", "Served by"), rows)
    for name, api in sorted(apis.items()):
        members = [*sorted(api.schema["rpcs"]), *sorted(api.schema["events"])]
        links = (
            f'<a href="apis/{escape(names[name])}#{escape(each)}"><code>{escape(each)}</code></a>' for each in members
        )
        yield f"<h2>{escape(name)}</h2>\n<p>{', '.join(links) or 'Nothing is in it.'}</p>\n"
    yield '<p>In other forms: <a href="asyncapi.json">AsyncAPI</a>, <a href="openapi.json">OpenAPI</a>.</p>\n'
    yield _FOOT


def _api_page(api: DescribedApi, title: str) -> Iterator[str]:
    head = f'<title>{escape(api.name)} - {escape(title)}</title>\n<link rel="stylesheet" href="../style.css">\n'
    yield from (_HEAD, head, f'</head>\n<body>\n<p><a href="../index.html">{escape(title)}</a></p>\n')
    yield f"<h1>{escape(api.name)}</h1>\n{_doc(api.doc)}"
    remarks = [*([f"version {api.version}"] if api.version else [])]
    remarks += [f"served by {', '.join(api.services)}"] if api.services else []
    yield f'<p class="remarks">{escape(", ".join(remarks).capitalize())}</p>\n' if remarks else ""
    types = _Types(api)
    for heading, kind in (("Procedures", "rpcs"), ("Events", "events")):
        if api.schema[kind]:
            yield f"<h2>{heading}</h2>\n"
        for name, parts in sorted(api.schema[kind].items()):
            yield from _member(api, name, parts, types)
    yield from types.section()
    yield _FOOT


def _member(api: DescribedApi, name: str, parts: JsonSchema, types: _Types) -> Iterator[str]:
    doc, arguments = split_doc(parts["parameters"])
    needed, optional, further = _parameters(arguments, types)
    listed = ", ".join([*needed, *optional, *([f"**rest: {further}"] if further else [])])
    result = f" → {types.text(parts['response'])}" if "response" in parts else ""
    yield f'<h3 id="{escape(name)}"><a href="#{escape(name)}">{escape(name)}</a>({listed}){result}</h3>\n'
    yield _doc(doc.get("description", doc.get("summary", "")))
    declared = api.events.get(name, {}) if "response" not in parts else {}
    remarks = [str(declared["delivery"]).replace("_", " ")] if declared.get("delivery") else []
    remarks += [f"in order by {declared['key']}"] if declared.get("key") else []
    yield f'<p class="remarks">{escape(", ".join(remarks).capitalize())}</p>\n' if remarks else ""
    described = [
        (f"<code>{escape(each)}</code>", types.text(part, arguments), escape(str(part["description"])))
        for each, part in (arguments.get("properties", {}) if isinstance(arguments, dict) else {}).items()
        if isinstance(part, dict) and part.get("description")
    ]
    yield from _table(("Argument", "Type", ""), described) if described else ()


def _parameters(arguments: Any, types: _Types) -> tuple[list[str], list[str], str]:
    """Return the texts of the required parameters, of those with defaults, and of further ones."""
    if not isinstance(arguments, dict):
        return [], [], "anything"
    needed, optional = [], []
    required = {*arguments.get("required", ())}
    for name, part in arguments.get("properties", {}).items():
        text = f"{escape(name)}: {types.text(part, arguments)}"
        if name in required:
            needed.append(text)
        else:
            default = json.dumps(part["default"], ensure_ascii=False) if "default" in (part or {}) else "…"
            optional.append(f"{text} = {escape(default)}")
    rest = arguments.get("additionalProperties", True)
    return needed, optional, "" if rest is False else types.text(rest, arguments)


class _Types:
    """The classes in the signatures of one API, each explained once on its page."""

    def __init__(self, api: DescribedApi) -> None:
        self._found: dict[str, tuple[Any, Any]] = {}
        for kind in ("rpcs", "events"):
            for parts in api.schema[kind].values():
                for schema in parts.values():
                    definitions = schema.get("$defs", {}) if isinstance(schema, dict) else {}
                    for name, definition in definitions.items():
                        if isinstance(definition, dict) and name.isidentifier():
                            self._found.setdefault(name, (definition, schema))

    def text(self, schema: Any, whole: Any = None) -> str:
        """Return a schema as text, with links to the classes in it. `whole` has its definitions."""
        definitions = {} if whole is None else whole.get("$defs", {})
        with_them = {**schema, "$defs": definitions} if isinstance(schema, dict) and definitions else schema
        text = escape(as_text(with_them))
        if not self._found:
            return text
        names = "|".join(sorted(map(re.escape, self._found), key=len, reverse=True))
        return re.sub(rf"\b({names})\b(?!&quot;)", r'<a href="#type-\1">\1</a>', text)

    def section(self) -> Iterator[str]:
        """Yield the section that explains the classes."""
        if self._found:
            yield "<h2>Types</h2>\n"
        for name, (definition, whole) in sorted(self._found.items()):
            yield f'<h3 id="type-{escape(name)}">{escape(name)}</h3>\n{_doc(str(definition.get("description", "")))}'
            yield from self._explained(definition, whole)

    def _explained(self, definition: JsonSchema, whole: JsonSchema) -> Iterator[str]:
        properties = definition.get("properties")
        if not isinstance(properties, dict):
            yield f"<p><code>{self.text({**definition, 'title': ''}, whole)}</code></p>\n"
            return
        required = {*definition.get("required", ())}
        rows = []
        for name, part in properties.items():
            known = part if isinstance(part, dict) else {}
            default = json.dumps(known["default"], ensure_ascii=False) if "default" in known else ""
            about = [
                str(known.get("description", "")),
                "needed" if name in required else f"default: {default or 'none'}",
            ]
            text = "; ".join(each for each in about if each)
            rows.append((f"<code>{escape(name)}</code>", f"<code>{self.text(part, whole)}</code>", escape(text)))
        yield from _table(("Field", "Type", ""), rows)


def _table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    yield '<div class="wide"><table>\n<tr>' + "".join(f"<th>{each}</th>" for each in titles) + "</tr>\n"
    yield from ("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>\n" for row in rows)
    yield "</table></div>\n"


def _doc(text: str) -> str:
    return f'<div class="doc">{escape(text.strip())}</div>\n' if text.strip() else ""


def _first(text: str) -> str:
    return " ".join(text.strip().partition("\n\n")[0].split())


def _version(api: DescribedApi) -> str:
    return "" if api.version is None else str(api.version)


_FOOT = "<footer>Written by <code>lightbus docs</code>.</footer>\n</body>\n</html>\n"

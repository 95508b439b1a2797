"""Pages about the APIs on a bus."""

from __future__ import annotations

import json
import posixpath
from html.parser import HTMLParser
from typing import Any

from lightbus.cli.schemas.gathering import DescribedApi
from lightbus.cli.specifications.pages import site_files

VOID = {"meta", "link", "br", "img"}


class Page(HTMLParser):
    """What is in a page: its text, anchors and links. Elements that do not end in order are an error."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.text, self.tags, self.anchors, self.links = "", set[str](), set[str](), set[str]()
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        self.tags.add(tag)
        self.anchors |= {given["id"]} if "id" in given else set()
        self.links |= {given[name] for name in ("href", "src") if name in given}
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def pages(apis: dict[str, DescribedApi]) -> tuple[dict[str, str], dict[str, Page]]:
    files = site_files(apis, title="The bus")
    return files, {name: Page(text) for name, text in files.items() if name.endswith(".html")}


def test_links_lead_somewhere(apis: dict[str, DescribedApi]) -> None:
    """Each link has a target in the site; nothing is loaded from other sites."""
    files, read = pages(apis)
    assert {*files} == {
        "index.html", "style.css", "apis/other.html", "apis/shop.orders.html", "asyncapi.json", "openapi.json",
    }  # fmt: skip
    for name, page in read.items():
        assert page.links
        for link in page.links:
            path, _, anchor = link.partition("#")
            target = posixpath.normpath(posixpath.join(posixpath.dirname(name), path)) if path else name
            assert target in files, link
            assert not anchor or anchor in read[target].anchors, link
    assert "url(" not in files["style.css"]


def test_what_a_page_says(apis: dict[str, DescribedApi]) -> None:
    """Signatures, docstrings, delivery of events, and types with links to their fields."""
    files, read = pages(apis)
    text = read["apis/shop.orders.html"].text
    assert 'place(user: User, kind: Kind = "plain", price: Decimal = "1.5", pet: Cat | Dog | None = null) → ' in text
    assert "find(at: Point, **rest: int) → User | None" in text
    for words in ("Orders, and who placed them.", "It is not placed twice.", "Version 3, served by shop"):
        assert words in text
    assert "At least once, in order by at" in text
    assert '"#type-User"' in files["apis/shop.orders.html"]
    assert "b(**rest: anything)" in read["apis/other.html"].text
    assert json.loads(files["asyncapi.json"])["info"]["title"] == "The bus"


EVIL = "<script>alert(1)</script><img src='https://example.com/x'>"


def test_all_texts_are_escaped() -> None:
    """Names, docstrings, types and defaults are shown as text, whatever they contain."""
    described = {"type": "string", "default": EVIL, "description": EVIL, "enum": [EVIL]}
    whole = {"type": "object", "properties": {EVIL: described}, "required": [], "description": EVIL}
    of_type = {**whole, "properties": {"it": {"$ref": "#/$defs/It"}}, "$defs": {"It": whole}}
    api = DescribedApi(
        name=EVIL,
        schema={"rpcs": {EVIL: {"parameters": whole, "response": described}}, "events": {"e": {"parameters": of_type}}},
        doc=EVIL,
        events={"e": {"key": EVIL, "delivery": EVIL}},
        services=(EVIL,),
    )
    _, read = pages({EVIL: api})
    for page in read.values():
        assert EVIL in page.text
        assert not page.tags & {"script", "img"}
        assert not any(link.startswith("http") for link in page.links)


def test_names_that_differ_in_case_only() -> None:
    """Each API has its own file, also on a file system that ignores case."""
    empty: Any = {"rpcs": {}, "events": {}}
    apis = {name: DescribedApi(name=name, schema=empty) for name in ("Shop", "shop", "a/b", "a_b")}
    files, _ = pages(apis)
    names = sorted(name for name in files if name.startswith("apis/"))
    assert names == ["apis/Shop.html", "apis/a_b.2.html", "apis/a_b.html", "apis/shop.2.html"]

"""Values in a browser: numbers are not changed, and the offered code does the same as the page."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from browser.shop import PROGRAMS
from helpers import Processes

BIG = "9007199254740993"
"""2^53 + 1: the first integer that JavaScript changes."""

TEXTS = ['"q"', "@x", "-", "12", "true", "it's", "half \u202e of it", "ä", "plain"]


@pytest.fixture
def exact(processes: Processes) -> str:
    """Return the address of a dashboard with a service that returns its arguments."""
    worker = processes.worker("exact", "--service-name", "exact", cwd=PROGRAMS)
    dashboard = processes.lightbus("dashboard", "--port", "0", "--json", "--allow-actions")
    worker.wait_for_line("Ready")
    return str(json.loads(dashboard.wait_for_line(r"^\{.*\}$")[0])["url"])


async def _opened(page: Any, name: str) -> Any:
    card = page.locator("section.card").filter(has=page.locator("h2.signature", has_text=name))
    await card.get_by_text("Try it", exact=True).click()
    return card


async def _called(card: Any, **arguments: str) -> str:
    for label, value in arguments.items():
        await card.get_by_label(label).fill(value)
    await card.locator(".output").evaluate("each => each.replaceChildren()")
    await card.get_by_role("button", name="Call", exact=True).click()
    await card.get_by_text("Answered in").wait_for()
    return str(await card.locator("pre.result").inner_text())


async def _code(card: Any, title: str) -> str:
    await card.get_by_role("button", name=title, exact=True).click()
    return str(await card.locator(".code pre").text_content())


def test_numbers_are_not_changed(exact: str, visit: Any) -> None:
    """Above 2^53, and with trailing zeros: they are sent, shown and written as code as they were typed."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await browser.go(page, "apis/exact")
        card = await _opened(page, "echo")
        told = await _called(card, number=BIG, price="1.50", text="ab", more=f"[{BIG}, 7.5]")
        assert json.loads(told) == [BIG, "Decimal('1.50')", "'ab'", f"[{BIG}, 7.5]"]
        assert f'number={BIG}, price="1.50", text="ab", more=[{BIG}, 7.5])' in await _code(card, "Sync")
        shell = shlex.split(await _code(card, "CLI"))
        assert shell == [
            "lightbus",
            "call",
            "exact.echo",
            f"number={BIG}",
            'price="1.50"',
            "text=ab",
            f"more=[{BIG},7.5]",
        ]
        card = await _opened(page, "same")
        given = f'{{"a": {BIG}, "b": 1.0, "c": "{BIG}"}}'
        told = await _called(card, more=given)
        assert told == f'{{\n  "a": {BIG},\n  "b": 1.0,\n  "c": "{BIG}"\n}}'
        await browser.go(page, "events")
        await page.get_by_label("Event", exact=True).fill("exact.*")
        await page.get_by_role("button", name="Search").click()
        found = page.get_by_label("Stored events").locator(".event-args").first
        await found.wait_for()
        assert await page.get_by_text("1 event, the latest first, from").is_visible()
        assert await found.inner_text() == f'{{"number":{{"a":{BIG},"b":1.0,"c":"{BIG}"}}}}'

    visit(exact, look)


@pytest.mark.long
def test_code_does_the_same(exact: str, visit: Any, tmp_path: Path, processes: Processes) -> None:
    """As code for a shell and for asyncio, a text arrives as it was typed."""
    seen: dict[str, list[str]] = {"page": [], "CLI": [], "Async": []}

    async def look(browser: Any) -> None:
        page = await browser.page()
        await browser.go(page, "apis/exact")
        card = await _opened(page, "echo")
        for text in TEXTS:
            seen["page"].append(json.loads(await _called(card, number="1", price="2", text=text))[2])
            for title in ("CLI", "Async"):
                seen[title].append(await _code(card, title))

    visit(exact, look)
    assert seen["page"] == [repr(text) for text in TEXTS]
    for text, line in zip(TEXTS, seen["CLI"], strict=True):
        called = processes.lightbus(*shlex.split(line)[1:], "--json", cwd=tmp_path)
        assert called.wait() == 0
        assert json.loads(called.stdout)["result"][2] == repr(text)
    for number, code in enumerate(seen["Async"]):
        (tmp_path / f"code_{number}.py").write_text(re.sub(r"result = (await .*)", r"print(*\1)", code))
    for number, text in enumerate(TEXTS):
        assert repr(text) in processes.python(str(tmp_path / f"code_{number}.py"), cwd=tmp_path).wait_for_line(".+")[0]


def test_error_text_is_isolated_from_the_page(exact: str, visit: Any) -> None:
    """A handler's text cannot change that of the page, and its traceback is unfolded on request."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await browser.go(page, "apis/exact")
        card = await _opened(page, "fail")
        await card.get_by_label("text").fill("half \u202e of it")
        await card.get_by_role("button", name="Call", exact=True).click()
        told = await card.locator(".output .finding").text_content()
        assert r"half \u202e of it" in told
        assert "Traceback" not in told
        trace = card.locator(".output pre")
        assert not await trace.is_visible()
        await card.locator(".output summary").click()
        assert "in fail" in await trace.inner_text()
        assert "\u202e" not in await card.text_content()

    visit(exact, look)


def test_call_uses_the_given_timeout(exact: str, visit: Any) -> None:
    """The offered code does so, too."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await browser.go(page, "apis/exact")
        card = await _opened(page, "wait")
        await card.get_by_label("seconds number").fill("600")
        await card.get_by_label("Timeout").fill("0.1")
        await card.get_by_role("button", name="Call", exact=True).click()
        await card.get_by_text("within 0.1 s").first.wait_for()
        assert 'wait.call_async(seconds=600, bus_options={"timeout": 0.1})' in await _code(card, "Async")
        assert await _code(card, "CLI") == "lightbus call --timeout 0.1 exact.wait seconds=600"

    visit(exact, look)

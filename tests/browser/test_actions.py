"""Actions of a page: each in a real browser, with workers; and by the keyboard alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from helpers import Processes


def test_token_is_entered_in_the_form(processes: Processes, tmp_path: Path, visit: Any) -> None:
    """As for a dashboard on another host; a wrong one is reported."""
    file = tmp_path / "token"
    file.write_text("0123456789abcdef")
    file.chmod(0o600)
    asked = ("--allow-host", "bus.example", "--token-file", str(file))  # with a name of its own everybody gives it
    dashboard = processes.lightbus("dashboard", "--port", "0", *asked, cwd=tmp_path)
    url = dashboard.wait_for_line(r"is at (http://127\.0\.0\.1:\d+/)")[1]

    async def look(browser: Any) -> None:
        page = await browser.page()
        await page.goto(url)
        problem = page.get_by_text("This token is wrong.")
        assert not await problem.is_visible()
        await page.get_by_label("Token").fill("a-token-that-is-wrong")
        await page.get_by_role("button", name="Open").click()
        await problem.wait_for()
        await page.get_by_label("Token").fill("0123456789abcdef")
        await page.get_by_role("button", name="Open").click()
        await page.wait_for_selector("main h1")
        assert page.url.startswith(url)
        assert "login" not in page.url

    visit(url, look)


async def _try_it(page: Any, name: str, kind: str) -> Any:
    """Open the form of a member of an API; return its card."""
    card = page.locator("section.card").filter(has=page.locator("h2.signature", has_text=name))
    await card.get_by_text(kind, exact=True).click()
    return card


def test_code_is_copied(shop: Any, visit: Any) -> None:
    """By a button, which gives advice if the browser forbids copying: over the network without TLS."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await page.add_init_script("Object.defineProperty(navigator, 'clipboard', { value: undefined })")
        await browser.go(page, "apis/customers")
        card = await _try_it(page, "find", "Try it")
        await card.get_by_role("button", name="Copy", exact=True).click()
        await card.get_by_text("Select it, and copy").wait_for()

    visit(shop("customers"), look)


def test_call_and_fire(shop: Any, visit: Any) -> None:
    """A form made from the schema calls a procedure, shows answer or error, and the code that does the same."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await browser.go(page, "apis/customers")
        card = await _try_it(page, "check_password", "Try it")
        await card.get_by_label("user").fill("ada")
        await card.get_by_label("password").fill("secret")
        await card.get_by_label("remember").select_option(label="true")
        await card.get_by_role("button", name="Call", exact=True).click()
        await card.get_by_text("Answered in").wait_for()
        assert json.loads(await card.locator("pre.result").inner_text()) is True
        assert 'bus.customers.check_password(user="ada", password="secret", remember=True)' in await _code(card, "Sync")
        assert "await bus.customers.check_password.call_async(" in await _code(card, "Async")
        shell = "lightbus call customers.check_password user=ada password=secret remember=true"
        assert await _code(card, "CLI") == shell
        await browser.go(page, "apis/orders")
        card = await _try_it(page, "show(", "Try it")
        await card.get_by_label("number").fill("1000")
        await card.get_by_role("button", name="Call", exact=True).click()
        await card.get_by_text("KeyError").first.wait_for()
        card = await _try_it(page, "cancelled(", "Fire it")
        await card.get_by_label("number").fill("7")
        await card.get_by_role("button", name="Fire", exact=True).click()
        await card.get_by_text("Fired in").wait_for()

    visit(shop("customers", "orders"), look)


async def _code(card: Any, title: str) -> str:
    await card.get_by_role("button", name=title, exact=True).click()
    return str(await card.locator(".code pre").inner_text())


def test_an_event_is_followed(shop: Any, visit: Any) -> None:
    """Events appear as they are fired; the list waits while it is paused; one is followed to its acks."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await browser.go(page, "events")
        first = page.locator(".event").first
        await first.wait_for()
        await page.get_by_role("button", name="Pause").click()
        await page.get_by_role("button", name="Resume").wait_for()
        await first.click()
        await page.locator(".step.good", has_text="warehouse-reserve").wait_for()
        await page.get_by_label("Names of events").fill("*.nothing")
        await page.get_by_label("Names of events").press("Enter")
        await page.get_by_text("Paused.").wait_for()
        await page.get_by_label("Event", exact=True).fill("orders.*")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_label("Stored events").locator(".event").first.wait_for()

    visit(shop("customers", "orders", "stock", "warehouse", "web"), look)


@pytest.mark.long
def test_dead_letters_and_groups(shop: Any, visit: Any) -> None:
    """Dead letters are dropped and retried, one or all; a group is removed, after a confirmation."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await browser.go(page, "dead")
        letter = page.locator("section.letter").first
        await letter.get_by_text("the mail server does not know").wait_for()
        await page.locator("section.letter").nth(1).wait_for()  # one is left to go on at
        await letter.get_by_role("button", name="Drop").focus()
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Yes, do it").click()
        await page.get_by_text("Drop: 1 event").wait_for()
        await page.locator("section.letter button:focus").wait_for()  # the keyboard goes on at the next one
        await page.get_by_role("button", name=re.compile(r"^Retry \d+ events?$")).click()
        await page.get_by_role("button", name="Yes, do it").click()
        await page.get_by_text(re.compile(r"^Retry: \d+ event")).wait_for()
        await browser.go(page, "groups")
        await page.get_by_role("button", name="mail-thanks").click()
        await page.get_by_role("heading", name="Members").wait_for()
        await page.get_by_role("button", name="Forget this group").click()
        await page.get_by_role("button", name="Cancel").click()

    visit(shop("customers", "orders", "mail", "web"), look)


def test_page_without_actions(shop: Any, visit: Any) -> None:
    """Without --allow-actions there is no button that changes anything."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await browser.go(page, "apis/customers")
        card = await _try_it(page, "find", "Try it")
        await card.get_by_text("start it with --allow-actions").wait_for()
        assert await card.get_by_role("button", name="Call", exact=True).is_disabled()

    visit(shop("customers", actions=False), look)


def test_keyboard_and_theme(shop: Any, visit: Any) -> None:
    """Every page is reached by Tab and Enter, focus is kept while pages change, and so is the theme."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await browser.go(page, "overview")
        await page.keyboard.press("Tab")
        assert await page.evaluate("document.activeElement.textContent") == "Skip to the page"
        for title in ("Overview", "APIs", "Events", "Groups", "Dead letters", "Peers", "Journals"):
            await page.get_by_role("link", name=title, exact=True).focus()
            await page.keyboard.press("Enter")
            await page.locator(f"nav a[aria-current]:text-is('{title}')").wait_for()
        await browser.go(page, "apis")
        search = page.get_by_label("Search APIs, procedures, events")
        await search.type("check")
        await page.get_by_role("link", name="check_password").wait_for()
        assert await page.evaluate("document.activeElement.value") == "check"
        await page.get_by_role("button", name="Theme").click()
        await page.reload()
        assert await page.evaluate("document.documentElement.dataset.theme") == "dark"

    visit(shop("customers"), look)

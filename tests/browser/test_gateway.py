"""The page of the gateway, in a browser: closed without a token; with one it shows the allowed members."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from browser.shop import PROGRAMS
from helpers import Processes

from .conftest import Browser, Visit


def test_allowed_members_are_shown_and_called(
    processes: Processes, tmp_path: Path, visit: Callable[[str, Visit], None]
) -> None:
    """With a real worker; a wrong token is refused with a text, and long names are wrapped in a narrow window."""
    worker = processes.worker("shop", "--service-name", "orders", cwd=PROGRAMS, env={"EVERY": "5", "SERVICE": "orders"})
    worker.wait_for_line("Ready")
    tokens = tmp_path / "tokens"
    tokens.write_text("browser 0123456789abcdef\n")
    tokens.chmod(0o600)
    gateway = processes.lightbus(
        "gateway", "--port", "0", "--allow", "*", "--token-file", str(tokens), "--wait", "20", cwd=tmp_path
    )
    url = gateway.wait_for_line(r"are open at (http://127\.0\.0\.1:\d+/)")[1]

    async def visiting(browser: Browser) -> None:
        page: Any = await browser.page()
        await page.goto(browser.url)
        await page.fill("#token", "a wrong one")
        await page.click("#login button")
        await page.get_by_text("Send a token of this gateway").wait_for()
        assert [each for each in browser.complaints if "401" not in each] == []
        browser.complaints.clear()
        await page.fill("#token", "0123456789abcdef")
        await page.click("#login button")
        await page.wait_for_selector("h3")
        names = await page.eval_on_selector_all("h3", "all => all.map(each => each.textContent)")
        assert any(name.startswith("POST /api/") for name in names)
        assert any(name.startswith("GET /api/") for name in names)
        first = page.locator("details:has(form)").first
        await first.locator("summary").click()
        await first.locator("button").click()
        await first.locator("pre").filter(has_text=re.compile(r"^\d{3}\n")).wait_for()
        answer = '{"a":9007199254740993,"b":[1.50],"c":"\u202e1"}'
        await page.route("**/api/**", lambda route: route.fulfill(body=answer))
        await first.locator("button").click()
        await first.locator("pre").filter(has_text="9007199254740993").wait_for()
        shown = await first.locator("pre").inner_text()
        assert shown.split() == [
            "200",
            "{",
            '"a":',
            "9007199254740993,",
            '"b":',
            "[",
            "1.50",
            "],",
            '"c":',
            r'"\u202e1"',
            "}",
        ]
        long = "x" * 64
        described = {"tags": [{"name": long}], "paths": {f"/{long}/{long}": {"get": {"tags": [long]}}}}
        await page.route("**/openapi.json", lambda route: route.fulfill(json=described))
        await page.set_viewport_size({"width": 390, "height": 900})
        await page.click("#login button")
        await page.locator("h2", has_text=long).wait_for()
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        # The customers are not there, whom an order asks: that is told in the page, and on the console by the browser.
        browser.complaints[:] = [each for each in browser.complaints if "status of" not in each and "/api/" not in each]

    visit(url, visiting)

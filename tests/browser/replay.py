"""
Shows pages of the dashboard without a bus: their requests get recorded answers, and their clock has the recorded time.

So a page looks the same each time it is opened. `recording` records the answers.
"""

from __future__ import annotations

import json
import mimetypes
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import lightbus

__all__ = ["ANSWERS", "DRAWN", "KEPT", "PAGES", "Replay", "fields"]

KEPT = Path(__file__).parent / "kept"
ANSWERS = KEPT / "answers.json"
ASSETS = Path(lightbus.__path__[0]) / "dashboard" / "assets"

ORIGIN = "http://127.0.0.1"
"""The origin of the pages. No server listens there: each request is answered here."""

PAGES = {
    "overview": "Who uses whom",
    "service/orders": "orders.place",
    "apis": "check_password",
    "apis/orders": "place(email: str",
    "events": "orders.created",
    "groups": "mail-thanks",
    "dead": "the mail server does not know",
    "peers": "warehouse",
    "journals": "Where events are stored",
}
"""Each page, with a text that is on it once its data has arrived."""

STREAMS = """
delete window.SharedWorker;
window.EventSource = class {
  static CLOSED = 2;
  constructor(url) {
    this.readyState = 1;
    const told = (%s)[url];
    setTimeout(() => this.readyState === 1 && this.onmessage?.({ data: JSON.stringify(told) }));
  }
  close() { this.readyState = 2; }
};
window.asking = 0;
const plain = fetch;
window.fetch = async (...asked) => {
  window.asking += 1;
  try {
    const answer = await plain(...asked);
    await answer.clone().arrayBuffer();
    return answer;
  } finally {
    setTimeout(() => { window.asking -= 1; });
  }
};
"""
"""Script of a page: each stream sends its recorded messages at once. And `asking` counts the unanswered requests."""

DRAWN = "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

SAME_LETTERS = """
html { font-family: "DejaVu Sans" !important; }
code, pre, .signature, textarea, .event-args { font-family: "DejaVu Sans Mono" !important; }
* { content-visibility: visible !important; }
"""
"""The same fonts everywhere; and parts below the window are drawn, too, since a picture shows the whole page."""

WHOLE = "document.querySelector('main').getAttribute('aria-busy') === 'false'"
"""Whether a page has drawn all its data: long lists are drawn in portions."""


class Replay:
    """Opens pages. `complaints` has the errors on their consoles, and the requests without a recorded answer."""

    def __init__(self, browser: Any, kept: dict[str, Any]) -> None:
        self._browser = browser
        self._kept = kept
        self.complaints: list[str] = []

    async def page(self, width: int, scheme: str, *, height: int = 900, scale: float = 1) -> Any:
        """Open a window whose clock has the time of the stored answers."""
        page = await self._browser.new_page(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            color_scheme=scheme,
            reduced_motion="reduce",
            locale="en",
            timezone_id="UTC",
        )
        page.set_default_timeout(120_000)
        page.on("console", lambda message: message.type in ("error", "warning") and self._note(message.text))
        page.on("pageerror", lambda error: self._note(str(error)))
        await page.clock.set_fixed_time(self._kept["at"])
        await page.add_init_script(STREAMS % json.dumps(self._kept["streams"]))
        await page.route("**/*", self._answer)
        return page

    async def go(self, page: Any, path: str, *, text: str = "") -> None:
        """Go to a page, and wait until it shows its data: a text that is there then, by default that of `PAGES`."""
        # Otherwise only the part behind the `#` would change, and the page would not be loaded anew.
        await page.goto("about:blank")
        await page.goto(f"{ORIGIN}/#/{path}")
        await page.add_style_tag(content=SAME_LETTERS)
        await page.get_by_text(text or PAGES[path]).first.wait_for()
        await page.wait_for_function("window.asking === 0")
        await page.wait_for_function(WHOLE)
        await page.evaluate(DRAWN)

    async def _answer(self, route: Any) -> None:
        parts = urlsplit(route.request.url)
        asked = f"{parts.path}?{parts.query}" if parts.query else parts.path
        file = ASSETS / ("index.html" if parts.path == "/" else parts.path.removeprefix("/assets/"))
        if asked in self._kept["answers"]:
            await route.fulfill(json=self._kept["answers"][asked])
        elif file.is_file():
            await route.fulfill(body=file.read_bytes(), content_type=mimetypes.guess_type(file.name)[0])
        else:
            self._note(f"nobody knows {route.request.url}")
            await route.fulfill(status=404)

    def _note(self, text: str) -> None:
        self.complaints.append(text)


def fields(told: dict[str, Any]) -> dict[str, set[str]]:
    """Return the field names in the data of a page, each with those of its rows."""
    rows = {name: value if isinstance(value, list) else [] for name, value in told.items()}
    return {name: {field for row in found if isinstance(row, dict) for field in row} for name, found in rows.items()}

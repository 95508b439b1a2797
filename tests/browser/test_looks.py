"""The look of each page, drawn from stored answers: equal to its stored picture, but for invisible differences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from browser import chromium
from browser.images import differing
from browser.pictures import LOOKS, kept_file, shot
from browser.recording import LISTEN, TOLD
from browser.replay import ANSWERS, DRAWN, PAGES, Replay, fields
from browser.shop import EVERYBODY

from .conftest import InBrowser

FEW = 4
"""How many blocks of a picture may differ: another release of the browser may place a letter elsewhere."""


@pytest.fixture
def same_letters() -> None:
    """Skip a test if pages would be drawn with other fonts than the stored pictures."""
    if problem := chromium.lacks_font():
        pytest.skip(problem)


@pytest.mark.parametrize(("width", "scheme"), LOOKS)
@pytest.mark.usefixtures("same_letters")
def test_pages_look_as_stored(width: int, scheme: str, tmp_path: Path, in_browser: InBrowser) -> None:
    """At three widths, and dark: no page differs visibly from its picture, and none has errors."""

    async def look(browser: Any) -> dict[str, str]:
        wrong = {}
        replay = Replay(browser, json.loads(ANSWERS.read_text()))
        page = await replay.page(width, scheme)
        for path in PAGES:
            await replay.go(page, path)
            if told := _difference(await shot(page), kept_file(path, width, scheme), tmp_path):
                wrong[path] = told
        assert replay.complaints == []
        return wrong

    assert in_browser(look) == {}, "if it is meant: nox -s pictures"


def _difference(now: Image.Image, file: Path, directory: Path) -> str:
    """Return what to look at if a page differs; empty if it does not."""
    with Image.open(file) as kept:
        differences = differing(now, kept.convert("RGB"))
    blocks = differences.histogram()[255] if differences else 0
    if blocks <= FEW:
        return ""
    now.save(directory / file.name)
    return f"{blocks} blocks differ from {file.name}: see {directory / file.name}"


@pytest.mark.parametrize("css", [".badge { background: #fcc !important }", "h1 { margin-top: 12px !important }"])
@pytest.mark.usefixtures("same_letters")
def test_change_is_found(css: str, tmp_path: Path, in_browser: InBrowser) -> None:
    """Another colour of a small element is found, and so is a moved one."""

    async def look(browser: Any) -> str:
        replay = Replay(browser, json.loads(ANSWERS.read_text()))
        page = await replay.page(1024, "light")
        await replay.go(page, "service/orders")
        await page.add_style_tag(content=css)
        return _difference(await shot(page), kept_file("service/orders", 1024, "light"), tmp_path)

    assert "blocks differ" in in_browser(look)


def test_fifty_dead_letters_are_drawn(in_browser: InBrowser) -> None:
    """The others are counted, and drawn on request."""
    kept = json.loads(ANSWERS.read_text())
    [letter, *_] = kept["answers"]["/api/dead"]["dead"]
    kept["answers"]["/api/dead"]["dead"] = [{**letter, "native_id": f"{number}"} for number in range(120)]

    async def look(browser: Any) -> list[int]:
        replay = Replay(browser, kept)
        page = await replay.page(1024, "light")
        await replay.go(page, "dead")
        found = [await page.locator(".letter").count()]
        assert await page.get_by_text("70 more.").count() == 1
        await page.get_by_role("button", name="Show all").click()
        await page.locator(".letter").nth(119).wait_for()
        return [*found, await page.locator(".letter").count()]

    assert in_browser(look) == [50, 120]


def test_problems_of_a_service_are_shown_in_the_graph(in_browser: InBrowser) -> None:
    """A service with a stuck listener, or a full disk, is not green, and shows the reason."""
    kept = json.loads(ANSWERS.read_text())
    [overview] = [told for asked, told in kept["streams"].items() if asked.startswith("/api/stream/overview")]
    mail = next(each for each in overview["services"] if each["name"] == "mail")
    mail["problems"] = ["mail 1234: its disk is full"]

    async def look(browser: Any) -> tuple[str, str]:
        replay = Replay(browser, kept)
        page = await replay.page(1024, "light")
        await replay.go(page, "overview")
        node = page.locator(".node", has_text="mail")
        return await node.locator(".dot").get_attribute("class"), await node.locator("title").text_content()

    assert in_browser(look) == ("dot warn", "mail 1234: its disk is full")


def test_reason_of_a_peers_state_is_shown(in_browser: InBrowser) -> None:
    """The problem and the remedy, with commands drawn as such; also for a peer that answers."""
    kept = json.loads(ANSWERS.read_text())
    [peers] = [told for asked, told in kept["streams"].items() if asked.startswith("/api/stream/peers")]
    why = {"level": "warning", "check": "health", "text": "It was just blocked.", "remedy": "See `lightbus top`."}
    peers["peers"] = [{**each, "why": [why] if each["service"] == "mail" else []} for each in peers["peers"]]

    async def look(browser: Any) -> tuple[list[str], list[str]]:
        replay = Replay(browser, kept)
        page = await replay.page(1024, "light")
        await replay.go(page, "peers")
        cells = page.locator("td[data-label=State] .dim")
        return await cells.all_inner_texts(), await cells.locator("code").all_inner_texts()

    assert in_browser(look) == (["It was just blocked. See lightbus top."], ["lightbus top"])


def test_reason_of_a_waiting_event_is_shown(in_browser: InBrowser) -> None:
    """It is not shown as delivered, and the problem of its group is."""
    kept = json.loads(ANSWERS.read_text())
    for asked in kept["answers"]:
        if asked.startswith("/api/fate"):
            groups = {"mail-thanks": "waiting", "warehouse-reserve": "waiting"}
            kept["answers"][asked] = {"stored": True, "groups": groups, "why": {"mail-thanks": "no process"}}

    async def look(browser: Any) -> list[str]:
        replay = Replay(browser, kept)
        page = await replay.page(1024, "light")
        await replay.go(page, "events")
        await page.locator("#tail .event").first.click()
        await page.get_by_text("mail-thanks").first.wait_for()
        return [" ".join(each.split()) for each in await page.locator(".step").all_inner_texts()][-2:]

    assert in_browser(look) == [
        "mail-thanks waits, not acked yet: no process", "warehouse-reserve waits, not acked yet"
    ]  # fmt: skip


OVERLAPPING = """
() => {
    const found = (selector) => [...document.querySelectorAll(selector)];
    const box = (each, text) => [each.parentNode, text, each.getBoundingClientRect()];
    const boxes = found(".edge-label, .edge-rate").map((each) => box(each, each.textContent));
    boxes.push(...found(".node rect").map((each) => box(each, each.parentNode.textContent)));
    const meet = (a, b) => a.left + 1 < b.right && b.left + 1 < a.right && a.top + 1 < b.bottom && b.top + 1 < a.bottom;
    const over = [];
    for (const [of, text, one] of boxes) {
        for (const [to, other, two] of boxes) if (of !== to && text < other && meet(one, two)) over.push([text, other]);
    }
    return [found(".edge-label").length, over];
}
"""


@pytest.mark.parametrize("width", [390, 1024, 1920])
@pytest.mark.usefixtures("same_letters")
def test_texts_in_the_graph_are_readable(width: int, in_browser: InBrowser) -> None:
    """However long the names are, nothing overlaps; edges with enough room have their label."""
    kept = json.loads(ANSWERS.read_text())
    [overview] = [told for asked, told in kept["streams"].items() if asked.startswith("/api/stream/overview")]
    crowded = json.loads(json.dumps(kept))
    for told in crowded["streams"].values():
        for number, edge in enumerate(told.get("edges", ())):
            edge.update(errors=0.5, names=[{**edge["names"][0], "name": f"orders.something_rather_{number}"}])

    async def look(browser: Any) -> list[tuple[int, list[list[str]]]]:
        seen = []
        for answers in (kept, crowded):
            replay = Replay(browser, answers)
            page = await replay.page(width, "light")
            await replay.go(page, "overview")
            seen.append(await page.evaluate(OVERLAPPING))
        return seen

    usual, worst = in_browser(look)
    assert usual == [len(overview["edges"]), []]
    assert worst[0] > 1
    assert worst[1] == []


SPILLED = """
() => [...document.querySelectorAll(".node")].filter((node) => {
    const box = node.querySelector("rect").getBoundingClientRect();
    return [...node.querySelectorAll("text")].some((each) => each.getBoundingClientRect().right > box.right - 4);
}).map((node) => node.textContent)
"""


@pytest.mark.parametrize("width", [390, 1024])
@pytest.mark.usefixtures("same_letters")
def test_names_stay_in_their_boxes(width: int, in_browser: InBrowser) -> None:
    """However wide the letters of a service's name are."""
    kept = json.loads(ANSWERS.read_text().replace('"warehouse"', '"WWWWWMMMMMMWWWWWMMMMM"'))

    async def look(browser: Any) -> list[str]:
        replay = Replay(browser, kept)
        page = await replay.page(width, "light")
        await replay.go(page, "overview")
        return list(await page.evaluate(SPILLED))

    assert in_browser(look) == []


NAMES = {
    "api", "apis", "event", "events", "from", "group", "host", "hosts", "name", "procedures", "process", "publisher",
    "service", "to",
}  # fmt: skip
"""Fields of what pages are told that hold names, or lists of names."""

CUT = """
() => {
    const by_design = ".picture, nav, thead, caption, .event-args, input, select, textarea, script, .skip";
    const isCut = (each) => {
        const [box, style] = [each.getBoundingClientRect(), getComputedStyle(each)];
        const isOutside = box.width > 0 && (box.left < -1 || box.right > innerWidth + 1);
        return isOutside || (style.overflowX !== "visible" && each.scrollWidth > each.clientWidth + 1);
    };
    const isShown = (each) => each.checkVisibility() && !each.closest(by_design);
    const found = [...document.querySelectorAll("body *")].filter((each) => isShown(each) && isCut(each));
    return found.map((each) => `${each.nodeName}.${each.className}: ${each.textContent.slice(0, 60)}`);
}
"""
"""What is cut, or outside of the window. Arguments of events are cut in the list, and whole where one is opened."""


def _long(name: str) -> str:
    return f"{name}-{'x' * 64}"


def _with_long_names(value: Any, *, is_name: bool = False) -> Any:
    """Return what pages are told, with names that are 64 letters longer, without a place to break a line."""
    if isinstance(value, dict):
        return {key: _with_long_names(each, is_name=key in NAMES) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_long_names(each, is_name=is_name) for each in value]
    return _long(value) if is_name and isinstance(value, str) else value


OPENED = {
    "overview": "main summary",
    "service/orders": "main .none",
    "apis": "main .none",
    "apis/orders": "main summary",
    "events": "#tail .event",
    "groups": "main td .link",
    "dead": "main summary",
    "peers": "main .none",
    "journals": "main .none",
}
"""What is opened on each page."""


def test_long_names_are_whole(in_browser: InBrowser) -> None:
    """In a narrow window, names of 64 letters and more are wrapped on every page; those in the graph have a title."""
    kept = _with_long_names(json.loads(ANSWERS.read_text()))
    for what in ("streams", "answers"):
        kept[what] = {
            asked.replace("name=orders", f"name={_long('orders')}"): told for asked, told in kept[what].items()
        }
    kept["answers"]["/api/about"]["bus"] = _long("bus")

    async def look(browser: Any) -> tuple[dict[str, list[str]], list[str]]:
        replay = Replay(browser, kept)
        page = await replay.page(390, "light")
        cut, titles = {}, []
        for path, opened in OPENED.items():
            await replay.go(page, path.replace("/orders", f"/{_long('orders')}"), text=f"-{'x' * 64}")
            for each in await page.locator(opened).all():
                await each.click()
                if path in ("events", "groups"):
                    break
            await page.wait_for_function("window.asking === 0")
            await page.evaluate(DRAWN)
            if found := await page.evaluate(CUT):
                cut[path] = found
            if path == "overview":
                titles = await page.locator(".node title").all_text_contents()
        assert replay.complaints == []
        return cut, titles

    cut, titles = in_browser(look)
    assert cut == {}
    assert _long("orders") in titles


def test_publishers_that_do_not_answer_are_named(in_browser: InBrowser) -> None:
    """Where their dead letters and events are missing; an event of which nothing is known is not shown as deleted."""
    kept = json.loads(ANSWERS.read_text())
    kept["answers"]["/api/dead"] |= {"dead": [], "more": 0, "silent": ["orders o1"]}
    for asked in kept["answers"]:
        if asked.startswith("/api/fate"):
            kept["answers"][asked] = {"stored": False, "groups": {}, "why": {}, "silent": ["orders o1"]}

    async def look(browser: Any) -> tuple[list[str], list[str], str]:
        replay = Replay(browser, kept)
        page = await replay.page(1024, "light")
        await replay.go(page, "dead", text="There are no others.")
        dead = await page.locator(".finding > div").all_inner_texts()
        await page.route("**/api/history?*", lambda route: route.fulfill(json={"events": [], "silent": ["orders o1"]}))
        await replay.go(page, "events")
        await page.get_by_label("Event", exact=True).fill("orders.*")
        await page.get_by_role("button", name="Search").click()
        await page.get_by_text("No stored event matches.").wait_for()
        past = await page.locator("#past .finding > div").all_inner_texts()
        await page.locator("#tail .event").first.click()
        await page.get_by_text("not known").wait_for()
        return dead, past, (await page.locator(".step").nth(1).inner_text()).replace("\n", " ")

    missing = ["orders o1: no answer, so what is stored there is not shown. The page Peers says why."]
    assert in_browser(look) == (missing, missing, "not known orders o1 did not answer")


def test_retry_continues_with_other_publishers(in_browser: InBrowser) -> None:
    """If one does not answer, the others are asked all the same, and the page says how many are not known."""
    kept = json.loads(ANSWERS.read_text())
    [letter, *_] = kept["answers"]["/api/dead"]["dead"]
    kept["answers"]["/api/dead"]["dead"] = [
        {**letter, "native_id": f"{number}", "instance": "a" * 16 if number < 60 else "b" * 16} for number in range(70)
    ]

    async def act(route: Any) -> None:
        asked = route.request.post_data_json
        if asked["instance"].startswith("a"):
            await route.fulfill(status=502, json={"message": "No answer came."})
        else:
            await route.fulfill(json={"done": asked["native_ids"][1:]})

    async def look(browser: Any) -> str:
        replay = Replay(browser, kept)
        page = await replay.page(1024, "light")
        await page.route("**/api/actions/retry-dead", act)
        await replay.go(page, "dead")
        await page.get_by_role("button", name="Retry 70 events").click()
        await page.get_by_role("button", name="Yes, do it").click()
        told: str = await page.locator(".toast.bad").inner_text()
        return told

    left = "1 were gone, or stay since their group does not get them now"
    expected = f"Retry: 9 events; {left}; the outcome of 60 is not known: No answer came."
    assert in_browser(look) == expected


def test_clients_are_named(in_browser: InBrowser) -> None:
    """Processes that are connected without being workers, as a gateway."""
    kept = json.loads(ANSWERS.read_text())
    [overview] = [told for asked, told in kept["streams"].items() if asked.startswith("/api/stream/overview")]
    overview["clients"] = {"lightbus-cli": 1, "lightbus-gateway": 2}

    async def look(browser: Any) -> str:
        replay = Replay(browser, kept)
        page = await replay.page(1024, "light")
        await replay.go(page, "overview")
        told: str = await page.get_by_text("Connected, and not workers").inner_text()
        return told

    assert in_browser(look) == (
        "Connected, and not workers: other commands and dashboards (1 process), lightbus-gateway (2 processes)."
    )


def test_keyboard_skips_long_parts(in_browser: InBrowser) -> None:
    """The navigation, on the present page, and the live events, of which there are a hundred."""

    async def look(browser: Any) -> list[str]:
        replay = Replay(browser, json.loads(ANSWERS.read_text()))
        page = await replay.page(1024, "light")
        await replay.go(page, "events")
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        seen = [await page.evaluate("document.activeElement.id"), await page.locator("h1").inner_text()]
        await page.get_by_role("button", name="Clear").focus()
        await page.keyboard.press("Tab")
        await page.keyboard.press("Enter")
        return [*seen, await page.evaluate("document.activeElement.id"), page.url.rpartition("#")[2]]

    assert in_browser(look) == ["main", "Events", "past", "/events"]


def test_the_present_page_is_visible_in_the_navigation(in_browser: InBrowser) -> None:
    """On a narrow screen the navigation is wider: it is scrolled as far as needed."""

    async def look(browser: Any) -> list[bool]:
        replay = Replay(browser, json.loads(ANSWERS.read_text()))
        page = await replay.page(390, "light")
        seen = []
        for path in ("journals", "overview", "dead"):
            await replay.go(page, path)
            place = await page.locator("nav a[aria-current]").bounding_box()
            seen.append(place["x"] >= 0 and place["x"] + place["width"] <= 390)
        return seen

    assert in_browser(look) == [True, True, True]


def test_many_problems_are_shown_in_part(in_browser: InBrowser) -> None:
    """Of a hundred findings the first are shown, each once, and the others counted: all would cost frames."""

    async def look(browser: Any) -> tuple[int, list[str]]:
        replay = Replay(browser, json.loads(ANSWERS.read_text()))
        page = await replay.page(1024, "light")
        await replay.go(page, "peers")
        await page.evaluate(
            """async () => {
                const { findings } = await import("/assets/parts.js");
                const wrong = Array.from({ length: 100 }, (_, number) => ({ text: `peer ${number} is wrong` }));
                document.body.replaceChildren(findings([...wrong, ...wrong]));
            }"""
        )
        told = await page.locator(".findings > li").all_inner_texts()
        return len(told), [" ".join(each.split()) for each in (told[0], told[-1])]

    assert in_browser(look) == (21, ["▲ peer 0 is wrong", "80 more: lightbus doctor names all of them."])


def test_a_command_links_to_its_page(in_browser: InBrowser) -> None:
    """The text `lightbus dead list` links to the page of dead letters."""

    async def look(browser: Any) -> tuple[str, int]:
        replay = Replay(browser, json.loads(ANSWERS.read_text()))
        page = await replay.page(1024, "light")
        await replay.go(page, "overview")
        await page.locator(".remedy").get_by_role("link", name="lightbus dead list").click()
        await page.get_by_text("the mail server does not know").first.wait_for()
        return page.url, len(replay.complaints)

    url, complaints = in_browser(look)
    assert (url.rpartition("#")[2], complaints) == ("/dead", 0)


DRAW_IN_PORTIONS = """
async (takes) => {
    const { anew, h, row, show } = await import("/assets/dom.js");
    let now = 0;
    performance.now = () => (now += takes);  // as if each element took so many milliseconds
    let frame = 0;
    Object.defineProperty(document.timeline, "currentTime", { get: () => frame });
    const box = h("div", {});
    const line = (name, text) => row("li", name, () => h("li", {}, name + text));
    const draw = (names, text) => show(box, h("ul", {}, names.map((name) => line(name, text))));
    const frames = (names, text) => {
        const seen = [];
        anew();
        for (let whole = false; !whole; ) {
            frame += 1;
            whole = draw(names, text);
            seen.push([...box.querySelectorAll("li")].map((each) => each.textContent));
        }
        return seen;
    };
    const names = [...Array(32).keys()].map(String);
    return [frames(names, ""), frames(names.slice(4).reverse(), "*")];
}
"""


@pytest.mark.parametrize(("takes", "portion"), [(0.5, 15), (3, 10)], ids=["quick", "slow"])
def test_long_lists_are_drawn_in_portions(in_browser: InBrowser, takes: float, portion: int) -> None:
    """
    As many rows in a frame as there is time for, ten at least: those that are there stay as they were until it is their
    turn.

    A hundred rows at once would cost frames.
    """

    async def look(browser: Any) -> list[list[list[str]]]:
        replay = Replay(browser, json.loads(ANSWERS.read_text()))
        page = await replay.page(1024, "light")
        await replay.go(page, "peers")
        return list(await page.evaluate(DRAW_IN_PORTIONS, takes))

    first, second = in_browser(look)
    rows = [str(number) for number in range(32)]
    assert first == [rows[:count] for count in range(portion, 32 + portion, portion)]
    old = rows[4:][::-1]
    new = [f"{name}*" for name in old]
    assert second == [new[:count] + old[count:] for count in range(portion, 28 + portion, portion)]


def test_stored_answers_match_the_pages(shop: Any, visit: Any) -> None:
    """A dashboard sends its pages all fields of the stored answers; else: nox -s pictures -- --anew."""

    async def look(browser: Any) -> None:
        page = await browser.page()
        await page.add_init_script(LISTEN)
        for path, text in PAGES.items():
            await browser.go(page, path)
            await page.get_by_text(text).first.wait_for()
            await page.wait_for_function(TOLD)
        streams = {asked: fields(parts[-1]) for asked, parts in (await page.evaluate("window.told")).items()}
        kept = {asked: fields(told) for asked, told in json.loads(ANSWERS.read_text())["streams"].items()}
        assert streams.keys() == kept.keys()
        for asked, told in streams.items():
            assert kept[asked].keys() <= told.keys(), asked
            # Of a list without rows, as of what is wrong, nothing can be said.
            assert {
                name: rows - told[name] for name, rows in kept[asked].items() if told[name] and rows - told[name]
            } == {}

    visit(shop(*EVERYBODY), look)


KEEP_STREAMS = """
window.streams = [];
const Plain = EventSource;
window.EventSource = class extends Plain {
  constructor(url) { super(url); window.streams.push(this); this.url = url; }
};
window.hide = (hidden) => {
  Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
  document.dispatchEvent(new Event("visibilitychange"));
};
window.streaming = () => streams.filter((each) => each.readyState !== 2).map((each) => each.url.split("?")[0]).sort();
window.tell = (events) => streams.findLast((each) => each.url.startsWith("/api/events")).onmessage(
  { data: JSON.stringify({ events, passed_over: 0 }) });
"""


def test_hidden_page_takes_no_connection(in_browser: InBrowser) -> None:
    """A browser has six of them per host: else a fourth window would not open. Shown again it gets all data."""

    async def look(browser: Any) -> list[list[str]]:
        replay = Replay(browser, json.loads(ANSWERS.read_text()))
        page = await replay.page(1024, "light")
        await page.add_init_script(KEEP_STREAMS)
        await replay.go(page, "events")
        return [
            await page.evaluate("streaming()"),
            await page.evaluate("(hide(true), streaming())"),
            await page.evaluate("(hide(false), streaming())"),
        ]

    both = ["/api/events", "/api/stream/events"]
    assert in_browser(look) == [both, [], both]


def test_opened_event_stays(in_browser: InBrowser) -> None:
    """However many events come after it; the others make way for them."""

    async def look(browser: Any) -> tuple[int, list[str]]:
        replay = Replay(browser, json.loads(ANSWERS.read_text()))
        page = await replay.page(1024, "light")
        await page.add_init_script(KEEP_STREAMS)
        await replay.go(page, "events")
        event = {"native_id": None, "name": "a.b", "version": 1, "published_at": 1.5, "publisher": "", "kwargs": {}}
        await page.evaluate("(event) => tell([event])", {**event, "id": "first", "name": "the.first"})
        await page.locator(".event", has_text="the.first").click()
        await page.evaluate("(events) => tell(events)", [{**event, "id": f"{number}"} for number in range(200)])
        await page.locator("#tail .event", has_text="a.b").first.wait_for()
        tail = page.locator("#tail .event")
        await page.wait_for_function("document.querySelectorAll('#tail .event').length > 150")
        return await tail.count(), await page.locator("#tail .event[aria-expanded=true] b").all_inner_texts()

    assert in_browser(look) == (151, ["the.first"])


def test_versions_are_shown_side_by_side(in_browser: InBrowser) -> None:
    """Parts that are not in all of them are marked; equal parts are shown once."""
    kept = json.loads(ANSWERS.read_text())
    described = kept["answers"]["/api/describe?name=orders"]
    [form] = described["forms"]
    other = json.loads(json.dumps({**form, "version": "3.0.0", "digest": "another"}))
    place = next(each for each in other["procedures"] if each["name"] == "place")
    place["signature"] = place["signature"].replace("email: str", "mail: str")
    other["events"] = [each for each in other["events"] if each["name"] != "cancelled"]
    described["forms"].append(other)

    async def look(browser: Any) -> tuple[list[Any], list[Any], int]:
        replay = Replay(browser, kept)
        page = await replay.page(1024, "light")
        await replay.go(page, "apis/orders")
        shown = page.locator("section.card", has=page.get_by_role("heading", name="place", exact=True))
        boxes = [await each.bounding_box() for each in await shown.locator(".version").all()]
        marks = await page.locator("mark").all_inner_texts()
        return marks, [box["y"] for box in boxes], await page.locator("h2", has_text="show(").count()

    marks, heights, same = in_browser(look)
    assert marks == ["email: str", "mail: str", "It is not in this version."]
    assert heights[0] == heights[1]
    assert same == 1


def test_columns_without_room_are_unfolded(in_browser: InBrowser) -> None:
    """At 1024 px a row shows them below it, and keeps them during updates."""

    async def look(browser: Any) -> list[Any]:
        replay = Replay(browser, json.loads(ANSWERS.read_text()))
        page = await replay.page(1024, "light")
        await replay.go(page, "peers")
        seen = [await page.get_by_text("Found by").last.is_visible()]
        await page.get_by_role("button", name="The other columns").first.click()
        rest = page.locator("tr.rest dl")
        await rest.wait_for()
        seen.append(await rest.locator("dt").all_inner_texts())
        await page.set_viewport_size({"width": 1920, "height": 900})
        return [*seen, await rest.is_visible(), await page.locator("th", has_text="Found by").is_visible()]

    assert in_browser(look) == [False, ["Address", "APIs", "Version", "Found by"], False, True]


def test_link_to_a_group_opens_it(in_browser: InBrowser) -> None:
    """From the group of a listener on the page of its service."""
    kept = json.loads(ANSWERS.read_text())
    service = next(told for asked, told in kept["streams"].items() if asked.startswith("/api/stream/service"))
    names = {"api": "orders", "name": "thanks", "events": ["created"], "group": "mail-thanks"}
    service["listeners"] = [{**names, "rate": 0, "lag": 0, "curve": [], "waiting": 0, "failed": 0, "stopped": False}]
    groups = kept["streams"]["/api/stream/groups?name="]
    kept["streams"]["/api/stream/groups?name=orders%2Fmail-thanks"] = groups

    async def look(browser: Any) -> None:
        replay = Replay(browser, kept)
        page = await replay.page(1024, "light")
        await replay.go(page, "service/orders")
        await page.get_by_role("link", name="mail-thanks").click()
        await page.get_by_role("heading", name="Members").wait_for()

    in_browser(look)

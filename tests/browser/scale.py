"""
`python tests/browser/scale.py`: measure the dashboard of a large bus for an hour, with a browser.

The bus has 100 workers with 1,000 procedures, which fire 5,000 events a second (`programs/crowd.py`). The browser goes
from page to page, again and again. Measured at each visit are: of the dashboard's server, the processor time, as a
share of one processor, and the memory; of the page, the longest task between two frames, in processor time of its
thread (so that other programs on the machine do not count), and the memory of its scripts after a garbage collection.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from browser import chromium
from chaos.steady import sample
from helpers import Process, Processes

__all__ = ["Crowd", "Seen", "Visit", "look", "main", "stream"]

PROGRAMS = Path(__file__).parent / "programs"

PAGES = {
    "overview": "Who uses whom",
    "events": "Events fired per second",
    "service/service-03": "look_up_01",
    "apis": "shard-001",
    "apis/shard-001": "look_up_01",
    "groups": "follow-shard-001",
    "dead": "Dead letters",
    "peers": "service-03-003",
    "journals": "Where events are stored",
}
"""Each page, with a text that is on it once its data has arrived."""

FRAME = 60.0
"""The longest task of a page that is allowed, in milliseconds."""

SHARE = 0.10
"""The largest share of one processor that the server may take."""

GROWTH = {"server": 8.0, "heap": 4.0}
"""By how many MiB the memory of the server, and of the page, may grow from the second quarter to the last."""

TRACED = ["-*", "toplevel", "devtools.timeline", "disabled-by-default-devtools.timeline"]


@dataclass(frozen=True, slots=True)
class Visit:
    """
    The measurements of one visit to a page.

    Attributes:
        page: the path of the page.
        at: seconds since the beginning.
        share: the share of one processor that the server took.
        server: the memory of the server, in MiB.
        heap: the memory of the page's scripts, in MiB.
        nodes: the number of nodes in the page's document.
        longest: the longest task of the page, in milliseconds of processor time.
        gap: the longest time between two frames, in milliseconds. It depends on other programs on the machine, too.
        told: events per second that the page received, shown or only counted.

    """

    page: str
    at: float
    share: float
    server: float
    heap: float
    nodes: int
    longest: float
    gap: float
    told: float = 0.0


@dataclass(slots=True)
class Seen:
    """All visits, and the number of events fired per second."""

    visits: list[Visit] = field(default_factory=list)
    rate: float = 0.0

    def lines(self) -> list[str]:
        """Return a table: the medians and maxima of each page's visits, and how the memory has grown."""
        rows = [
            f"{self.rate:,.0f} events/s",
            "page                  longest ms   gap ms  server %  (median of visits / most)",
        ]
        for page in PAGES:
            of = [each for each in self.visits if each.page == page]
            if of:
                cells = [[getattr(each, what) for each in of] for what in ("longest", "gap", "share")]
                cells[2] = [100 * each for each in cells[2]]
                rows.append(f"{page:20}  " + "  ".join(f"{median(each):.1f} / {max(each):.1f}" for each in cells))
        for what in ("server", "heap", "nodes"):
            early, late = self.quarters(what)
            rows.append(f"{what}: {early:.1f} in the second quarter, {late:.1f} in the last one (medians)")
        return rows

    def quarters(self, what: str) -> tuple[float, float]:
        """Return the medians of a value over the second quarter of the visits, and over the last one."""
        values = [float(getattr(each, what)) for each in self.visits]
        size = max(1, len(values) // 4)
        return median(values[size : 2 * size] or values[:1]), median(values[-size:])

    def problems(self) -> list[str]:
        """Return the values above their limits."""
        found = []
        for page in PAGES:
            of = [each for each in self.visits if each.page == page]
            if of and (longest := max(each.longest for each in of)) > FRAME:
                found.append(f"{page} takes {longest:.0f} ms for a frame, and may take {FRAME:g}")
            if of and (share := median(each.share for each in of)) > SHARE:
                found.append(f"{page} takes {share:.0%} of a processor on the server, and may take {SHARE:.0%}")
        for what, name in (("server", "the server"), ("heap", "the page")):
            early, late = self.quarters(what)
            if late > early + GROWTH[what]:
                found.append(f"{name} grew from {early:.1f} to {late:.1f} MiB")
        return found


class Crowd:
    """The workers and the dashboard, as processes in an empty directory."""

    def __init__(self, processes: Processes, directory: Path, *, workers: int, rate: float, programs: int) -> None:
        self.rate = rate
        env = _environment(directory)
        self._workers: list[Process] = []
        share = workers // programs
        for number in range(programs):
            given: dict[str, float] = {"first": number * share, "workers": share, "services": 20, "procedures": 10}
            given |= {"rate": rate / programs, "calls": workers / programs}
            program = processes.python("crowd.py", json.dumps(given), cwd=PROGRAMS, env=env, name="crowd")
            self._workers.append(program)
        self.server = processes.lightbus("dashboard", "--port", "0", "--json", env=env)

    def url(self) -> str:
        """Return the URL of the dashboard, once all workers are up."""
        for each in self._workers:
            each.wait_for_line("Ready", 180)
        line = self.server.wait_for_line(r"^\{.*\}$")
        return str(json.loads(line[0])["url"])

    def fired(self) -> int:
        """Return how many events were fired so far."""
        lines = [each.wait_for_line(r"(?s).*^fired (\d+)$", 60) for each in self._workers]
        return sum(int(line[1]) for line in lines)


def _environment(directory: Path) -> Mapping[str, str]:
    config = directory / "config.json"
    config.write_text(json.dumps({"journal": {"min_age": 60}, "discovery": {"backend": "none"}}))
    for name in ("run", "data"):
        (directory / name).mkdir(mode=0o700, exist_ok=True)
    return {
        "LIGHTBUS_BUS": f"crowd-{directory.name[-8:]}",
        "LIGHTBUS_DATA_DIR": str(directory / "data"),
        "LIGHTBUS_CONFIG": str(config),
        "XDG_RUNTIME_DIR": str(directory / "run"),
    }


FRAMES = """
window.gaps = [];
let last = performance.now();
const note = (now) => { window.gaps.push(now - last); last = now; requestAnimationFrame(note); };
requestAnimationFrame(note);
window.told = 0;
const Plain = SharedWorker; // keeps the streams of all windows, and passes on what it is told
window.SharedWorker = class extends Plain {
  constructor(...given) {
    super(...given);
    this.port.addEventListener("message", ({ data: { text } }) => {
      if (!text?.includes('"passed_over"')) return;
      const { events, passed_over } = JSON.parse(text);
      window.told += events.length + passed_over;
    });
  }
};
"""
"""Script of a page: records the times between frames, and how many events the page receives."""


async def look(crowd: Crowd, *, seconds: float, each: float, pages: Mapping[str, str] = PAGES) -> Seen:
    """Visit one page after the other for a number of seconds, `each` so long, and return the visits."""
    seen, url = Seen(), await asyncio.to_thread(crowd.url)
    began, fired = time.monotonic(), crowd.fired()
    async with chromium.started() as browser:
        page = await browser.new_page(viewport={"width": 1920, "height": 1080})
        page.set_default_timeout(120_000)
        await page.add_init_script(FRAMES)
        await page.goto(url)
        developer = await page.context.new_cdp_session(page)
        await developer.send("HeapProfiler.enable")
        await developer.send("Performance.enable")
        while not seen.visits or time.monotonic() < began + seconds:
            for path, text in pages.items():
                await _go(page, f"{url}#/{path}", text)
                seen.visits.append(await _visit(browser, page, developer, crowd, path, began, each))
                print(seen.visits[-1], flush=True)  # an hour is long
    seen.rate = (crowd.fired() - fired) / (time.monotonic() - began)
    return seen


def stream(crowd: Crowd, *, seconds: float, each: float) -> Seen:
    """
    Read the events that the Events page reads, without a browser, and return what each so many seconds took.

    The first period begins with the first event, when the server has connected to the publishers.
    """
    seen, url = Seen(), crowd.url()
    with urllib.request.urlopen(f"{url.rstrip('/')}/api/events") as lines:
        while not _events_of(lines.readline()):
            pass
        began, fired = time.monotonic(), crowd.fired()
        while not seen.visits or time.monotonic() < began + seconds:
            before, start, told = sample(crowd.server), time.monotonic(), 0
            while time.monotonic() < start + each:  # an idle stream sends a line, too
                told += _events_of(lines.readline())
            after, took = sample(crowd.server), time.monotonic() - start
            share = round((after.processor - before.processor) / took, 4)
            seen.visits.append(
                Visit("events", round(start - began, 1), share, after.memory, 0.0, 0, 0.0, 0.0, round(told / took))
            )
            print(seen.visits[-1], flush=True)
        seen.rate = (crowd.fired() - fired) / (time.monotonic() - began)
    return seen


def _events_of(line: bytes) -> int:
    """Return how many events a line of the stream shows or counts."""
    if not line.startswith(b"data:"):
        return 0
    told = json.loads(line.removeprefix(b"data:"))
    return len(told["events"]) + int(told["passed_over"])


async def _go(page: Any, url: str, text: str) -> None:
    """Go to a page, and wait until it shows data of the bus; again, as people do, if it did not load in time."""
    await page.goto(url)
    for last in (False, False, False, True):
        try:
            await page.get_by_text(text).first.wait_for(timeout=60_000)
            return
        except Exception:
            if last:
                raise
            await page.reload()


async def _visit(
    browser: Any, page: Any, developer: Any, crowd: Crowd, path: str, began: float, seconds: float
) -> Visit:
    await browser.start_tracing(page=page, categories=TRACED)
    await page.evaluate("window.gaps = []; window.told = 0")
    before, start = sample(crowd.server), time.monotonic()
    await asyncio.sleep(seconds)
    after, took = sample(crowd.server), time.monotonic() - start
    gaps, events = await page.evaluate("[window.gaps, window.told]")
    longest = _longest(json.loads(await browser.stop_tracing()))
    await developer.send("HeapProfiler.collectGarbage")
    told = {each["name"]: each["value"] for each in (await developer.send("Performance.getMetrics"))["metrics"]}
    return Visit(
        page=path,
        at=round(start - began, 1),
        share=round((after.processor - before.processor) / took, 4),
        server=after.memory,
        heap=round(told["JSHeapUsedSize"] / 2**20, 2),
        nodes=int(told["Nodes"]),
        longest=round(longest, 1),
        gap=round(max(gaps, default=0.0), 1),
        told=round(events / took),
    )


def _longest(trace: Mapping[str, Any]) -> float:
    """Return the milliseconds of processor time of the longest task of the page's main thread."""
    events = trace["traceEvents"]
    mains = {(each["pid"], each["tid"]) for each in events if each.get("args", {}).get("name") == "CrRendererMain"}
    tasks = [each for each in events if (each["pid"], each["tid"]) in mains and each["name"].endswith("RunTask")]
    return max((each.get("tdur", each.get("dur", 0)) for each in tasks), default=0) / 1000


def main(argv: Sequence[str] | None = None) -> int:
    """Run it, print the results, and return the exit code: 1 if any value is above its limit."""
    parser = argparse.ArgumentParser(prog="nox -s scale --", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="how long (60)")
    parser.add_argument("--each", type=float, default=20.0, help="seconds for a visit to a page (20)")
    parser.add_argument("--workers", type=int, default=100, help="how many workers (100)")
    parser.add_argument("--rate", type=float, default=5000.0, help="events a second (5000)")
    parser.add_argument("--stream", action="store_true", help="read the stream of events alone, without a browser")
    options = parser.parse_args(argv)
    if not options.stream and (problem := chromium.lacks()):
        parser.error(problem)
    directory = Path(tempfile.mkdtemp(prefix="lb-crowd-", dir="/tmp"))  # short: sockets are in it
    (directory / "logs").mkdir()
    processes = Processes(directory / "logs")
    try:
        crowd = Crowd(processes, directory, workers=options.workers, rate=options.rate, programs=4)
        times = {"seconds": options.minutes * 60, "each": options.each}
        seen = stream(crowd, **times) if options.stream else asyncio.run(look(crowd, **times))
    finally:
        processes.end()
        shutil.rmtree(directory, ignore_errors=True)
    print("\n".join(seen.lines()), flush=True)
    for problem in seen.problems():
        print(problem, file=sys.stderr)
    return 1 if seen.problems() else 0


if __name__ == "__main__":
    sys.exit(main())

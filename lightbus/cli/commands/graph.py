"""`lightbus graph`: which service calls and listens to which, from the statistics of the peers."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ...core.peers import Peer
from ...exceptions import UnsupportedUse
from ...phrases import clean
from ..support.catalogue import served_apis
from ..support.connection import SERVICE, Connection, on_bus
from ..support.options import ClientOptions, client_options
from ..support.output import number

__all__ = ["Edge", "dot", "edges_between", "graph", "mermaid", "tree"]

PICTURE_SECONDS = 30.0


@dataclass(frozen=True, slots=True, order=True, kw_only=True)
class Edge:
    """
    One service uses another.

    Attributes:
        source: the service that calls or listens.
        target: the service that is called, or publishes.
        kind: `calls` or `listens`.
        name: the procedure, or the event, with its API.
        count: calls since the start of the workers that are up, or events that were handled by them.
        errors: how many of the calls were answered with an error, or how often handling an event failed.

    """

    source: str
    target: str
    kind: str
    name: str
    count: int
    errors: int = 0

    def fields(self) -> dict[str, Any]:
        """Return the fields of the JSON output."""
        return {"from": self.source, "to": self.target, "kind": self.kind, "name": self.name, "count": self.count}


@click.command()
@click.option("--format", "form", type=click.Choice(["tree", "mermaid", "dot"]), default="tree", show_default=True)
@click.option("--picture", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE", help="Draw: .svg, .png.")
@client_options
def graph(options: ClientOptions, form: str, picture: Path | None) -> None:
    """Show which service calls and listens to which.

    From the counts of the workers that are up, since their start. --picture needs Graphviz.
    """
    on_bus(options, lambda bus: _graph(bus, form, picture))


async def _graph(bus: Connection, form: str, picture: Path | None) -> None:
    found = await bus.discover_all()
    peers = [peer for peer in found if peer.is_up and peer.announcement.service != SERVICE]  # no commands
    infos = await bus.ask_all(peers, "info")
    stats = await bus.ask_all(peers, "stats")
    services = sorted({peer.announcement.service for peer in peers})
    edges = edges_between(peers, infos, stats)
    if picture is not None:
        _draw(dot(services, edges), picture)
        bus.output.note(f"The picture is in {picture}.")
    elif bus.output.as_json:
        for edge in edges:
            bus.output.record(edge.fields())
    else:
        for line in FORMS[form](services, edges):
            click.echo(line)


def edges_between(
    peers: Sequence[Peer], infos: Sequence[dict[str, Any]], stats: Sequence[dict[str, Any]]
) -> list[Edge]:
    """Return which service calls and listens to which, from the INFO and STATS of the peers, in their order."""
    return [*_calls(peers, stats), *_listens(peers, infos, stats)]


def _calls(peers: Sequence[Peer], stats: Iterable[dict[str, Any]]) -> list[Edge]:
    found: Counter[tuple[str, str, str]] = Counter()
    errors: Counter[tuple[str, str, str]] = Counter()
    for peer, peer_stats in zip(peers, stats, strict=True):
        for each in peer_stats.get("procedures", ()):
            for caller, calls in each["callers"].items():
                edge = caller, peer.announcement.service, f"{each['api']}.{each['procedure']}"
                found[edge] += calls
                errors[edge] += each.get("caller_errors", {}).get(caller, 0)
    return [each for each in _edges("calls", found, errors) if each.source != SERVICE]


def _edges(kind: str, found: Counter[tuple[str, str, str]], errors: Counter[tuple[str, str, str]]) -> Iterator[Edge]:
    for (source, target, name), count in sorted(found.items()):
        failed = errors[source, target, name]
        yield Edge(source=source, target=target, kind=kind, name=name, count=count, errors=failed)


def _listens(peers: Sequence[Peer], infos: Iterable[dict[str, Any]], stats: Iterable[dict[str, Any]]) -> list[Edge]:
    publishers = {
        (api.name, event): {peer.announcement.service for peer, info in api.served if event in info.events}
        for api in served_apis(peers)
        for event in api.events
    }
    found: Counter[tuple[str, str, str]] = Counter()
    errors: Counter[tuple[str, str, str]] = Counter()
    for peer, info, peer_stats in zip(peers, infos, stats, strict=True):
        counted = {(each["api"], each["name"]): each for each in peer_stats.get("listeners", ())}
        for listener in info.get("listeners", ()):
            counts = counted.get((listener["api"], listener["name"]), {})
            for (api, event), services in publishers.items():
                if api == listener["api"] and {event, "*"} & {*listener["events"]}:
                    for service in services:
                        edge = peer.announcement.service, service, f"{api}.{event}"
                        found[edge] += counts.get("handled", {}).get(event, 0)
                        errors[edge] += counts.get("failed_by", {}).get(event, 0)
    return [*_edges("listens", found, errors)]


def _draw(lines: Iterable[str], file: Path) -> None:
    program = shutil.which("dot")
    if program is None:
        raise UnsupportedUse(
            "Graphviz is not installed here: there is no program 'dot'. Install it, or use --format dot elsewhere."
        )
    form = file.suffix.lstrip(".") or "svg"
    source = "\n".join(lines)
    command = [program, f"-T{form}", "-o", str(file)]
    try:
        done = subprocess.run(command, input=source.encode(), capture_output=True, timeout=PICTURE_SECONDS)
    except subprocess.TimeoutExpired:
        raise UnsupportedUse(
            f"Graphviz did not draw {file} within {PICTURE_SECONDS:g} s. Write the graph with --format dot, and draw "
            "it with another program of Graphviz, such as sfdp."
        ) from None
    except OSError as error:
        raise UnsupportedUse(f"{program} of Graphviz cannot be started: {error.strerror}.") from None
    if done.returncode:
        raise UnsupportedUse(f"Graphviz did not draw {file}: {done.stderr.decode(errors='replace').strip()}")


# The forms


def tree(services: Sequence[str], edges: Sequence[Edge]) -> list[str]:
    """Return the lines of a text tree: each service, and below it the services that it uses."""
    by_source: dict[str, list[Edge]] = defaultdict(list)
    for edge in edges:
        by_source[edge.source].append(edge)
    lines = []
    for service in sorted({*services, *by_source}):
        lines.append(clean(service))
        uses = by_source[service]
        for index, edge in enumerate(uses):
            branch = "└─" if index == len(uses) - 1 else "├─"
            verb = "calls" if edge.kind == "calls" else "listens to"
            lines.append(clean(f"{branch} {verb} {edge.target}: {edge.name} ({number(edge.count)})"))
    return lines


def mermaid(services: Sequence[str], edges: Sequence[Edge]) -> list[str]:
    """Return the lines of a Mermaid flowchart. Events flow from the publisher to the listener, dashed."""
    ids = {name: f"s{index}" for index, name in enumerate(_names(services, edges))}
    lines = ["flowchart LR", *(f"    {key}[{_quoted(name, '#quot;')}]" for name, key in ids.items())]
    for edge in edges:
        label = _quoted(f"{edge.name} ({number(edge.count)})", "#quot;")
        if edge.kind == "calls":
            lines.append(f"    {ids[edge.source]} -->|{label}| {ids[edge.target]}")
        else:
            lines.append(f"    {ids[edge.target]} -.->|{label}| {ids[edge.source]}")
    return lines


def dot(services: Sequence[str], edges: Sequence[Edge]) -> list[str]:
    """Return the lines of a Graphviz graph. Events flow from the publisher to the listener, dashed."""

    def quoted(text: str) -> str:
        return _quoted(clean(text).replace("\\", "\\\\"), '\\"')

    lines = ["digraph lightbus {", "    rankdir=LR;", "    node [shape=box];"]
    lines += [f"    {quoted(name)};" for name in _names(services, edges)]
    for edge in edges:
        label = quoted(f"{edge.name} ({number(edge.count)})")
        ends, style = ((edge.source, edge.target), "solid")
        if edge.kind == "listens":
            ends, style = ((edge.target, edge.source), "dashed")
        lines.append(f"    {quoted(ends[0])} -> {quoted(ends[1])} [label={label}, style={style}];")
    return [*lines, "}"]


FORMS: dict[str, Callable[[Sequence[str], Sequence[Edge]], list[str]]] = {"tree": tree, "mermaid": mermaid, "dot": dot}


def _names(services: Sequence[str], edges: Sequence[Edge]) -> list[str]:
    return sorted({*services, *(name for edge in edges for name in (edge.source, edge.target))})


def _quoted(text: str, quote: str) -> str:
    return '"' + clean(text).replace('"', quote) + '"'

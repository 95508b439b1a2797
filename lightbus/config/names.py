"""The names of a service, a process and a bus: their placeholders, and their defaults.

Nothing here is cached: a forked child expands the same template again, and gets its own process id and random parts.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..exceptions import InvalidConfiguration, did_you_mean
from .surroundings import home_directory, host_name, shorten_name

__all__ = [
    "MAX_NAME_LENGTH",
    "UNNAMED",
    "ServiceName",
    "default_bus_name",
    "default_service_name",
    "expand",
    "problem_with",
]

MAX_NAME_LENGTH = 63
"""Bytes: a name is part of a DNS-SD label (63 bytes, RFC 6763 section 4.1.1) and of a path on disk."""

UNNAMED = "unnamed"
"""The service name if there is no directory to take it from."""

SAYS_NOTHING = frozenset({"app", "src", "code", "service", "backend", "scripts", "tmp", "home", UNNAMED})
"""Directory names that many unrelated services share, so that they do not identify a service."""

_ADJECTIVES = """
    able agile amber apt bold brave brief bright brisk calm candid clear clever cosy crisp daring deft eager early
    fair fleet fond frank fresh gentle glad golden grand green handy hardy honest jolly keen kind light lively loyal
    lucid mellow merry mild neat nimble noble patient plain proud quick quiet ready rosy sharp silver sincere smart
    snug solid spry steady stout sunny swift tidy true vivid warm wise witty
"""
_NOUNS = """
    acorn alder anchor aspen badger basin beacon birch bison bridge brook canyon cedar cliff cloud comet coral cove
    crane creek delta dune eagle ember falcon fern finch fjord forest fox garden glacier grove harbour hare hazel
    heron hill island jay juniper lagoon lake lark linden lynx maple marten meadow mesa moor oak orchid osprey otter
    owl pebble pine plover pond prairie quarry raven reef ridge river robin rowan sparrow spruce stream thrush
    tundra valley walnut willow wren
"""

_PYTHON = Path(os.__file__).parent
"""The directory of the standard library."""


def _friendly() -> str:
    """Return an adjective, a noun and a number: easier to say aloud than a process id."""
    pick = int.from_bytes(os.urandom(8), "big")  # not `random`, whose state a forked child shares
    adjectives, nouns = _ADJECTIVES.split(), _NOUNS.split()
    pick, adjective = divmod(pick, len(adjectives))
    pick, noun = divmod(pick, len(nouns))
    return f"{adjectives[adjective]}-{nouns[noun]}-{pick % 1000}"


def _random(digits: int) -> Callable[[], str]:
    return lambda: os.urandom(digits // 2).hex()


_PLACEHOLDERS: dict[str, Callable[[], str]] = {
    "hostname": lambda: host_name().lower(),
    "pid": lambda: str(os.getpid()),
    "random4": _random(4),
    "random8": _random(8),
    "random16": _random(16),
    "friendly": _friendly,
}
_PLACEHOLDER = re.compile(r"\{(\w*)\}")


def expand(template: str) -> str:
    """
    Return the name with its placeholders filled in, anew at each call.

    Placeholders: `{hostname} {pid} {random4} {random8} {random16}` (hexadecimal digits) and `{friendly}`
    (`"swift-otter-17"`). Raises InvalidConfiguration for any other.
    """
    problem = problem_with(template)
    if problem is not None:
        raise InvalidConfiguration(f"The name '{template}' {problem}")
    expanded = _PLACEHOLDER.sub(lambda found: _PLACEHOLDERS[found[1]](), template)
    return expanded if len(expanded.encode()) <= MAX_NAME_LENGTH else _with_short_host_name(template, expanded)


def _with_short_host_name(template: str, expanded: str) -> str:
    """Shorten the host's name in a name that is too long, so that the name fits."""
    host = _PLACEHOLDERS["hostname"]()
    count = template.count("{hostname}")
    if not count:
        return expanded
    over = len(expanded.encode()) - MAX_NAME_LENGTH
    shorter = shorten_name(host, max(1, len(host.encode()) - -(-over // count)))
    return expanded.replace(host, shorter)


def problem_with(template: str) -> str | None:
    """Return what is wrong with a name (`"has an unknown placeholder ..."`), or None if it is valid."""
    if not template.strip():
        return "is empty; leave the setting out to get the default"
    if "/" in template or template.startswith(".") or not template.isprintable():
        return "must be printable, without '/' and without a dot in front: it names a directory too"
    if len(template.encode()) > MAX_NAME_LENGTH:
        return f"is {len(template.encode())} bytes long; {MAX_NAME_LENGTH} is the most"
    for placeholder in _PLACEHOLDER.findall(template):
        if placeholder not in _PLACEHOLDERS:
            known = " ".join(f"{{{name}}}" for name in _PLACEHOLDERS)
            near = did_you_mean(placeholder, _PLACEHOLDERS)
            return f"has an unknown placeholder {{{placeholder}}}.{near} There are {known}"
    if set("{}") & set(_PLACEHOLDER.sub("", template)):
        return "has a brace that is not part of a placeholder"
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceName:
    """A default service name (`name`), and whether it identifies the service (`says_something`)."""

    name: str
    says_something: bool


def default_service_name(module_file: str | None) -> ServiceName:
    """
    Return the name of the directory that holds `module_file`, the module that calls `create()`.

    So a worker and a script that import the same `bus.py` are one service, before and after a restart.
    Some names do not identify a service: those of directories that every project has, of home directories, of the
    root, of directories under site-packages (each service that installs the package would have it), those of Python
    itself (`asyncio.to_thread(lightbus.create)` is called by a module there), and the name used without a file. With
    such a name two services would share groups and take each other's events, so the caller must refuse durable
    listeners. Symbolic links are not followed: `current -> releases/2026-03-01` would be a new service at each release.
    """
    if module_file is None or module_file.startswith("<"):  # "<stdin>", "<string>"
        return ServiceName(name=UNNAMED, says_something=False)
    directory = Path(os.path.abspath(module_file)).parent
    name = re.sub(r"[^\w.-]+", "-", directory.name).lstrip(".").encode()[:MAX_NAME_LENGTH].decode(errors="ignore")
    name = name or UNNAMED  # the root directory has no name
    return ServiceName(name=name, says_something=name.lower() not in SAYS_NOTHING and not _is_shared(directory))


def _is_shared(directory: Path) -> bool:
    """Return whether unrelated programs may be in this directory."""
    installed = {"site-packages", "dist-packages"} & set(directory.parts)
    is_home = str(directory.parent) in {"/home", "/Users"} or directory == home_directory()
    return bool(installed) or is_home or directory.is_relative_to(_PYTHON)


def default_bus_name() -> str:
    """Return the bus name of this user on this host, `"host-sally"`, with the uid if the user has no usable name."""
    import pwd  # Linux and macOS only, as is the mode that needs this name

    uid = os.getuid()
    try:
        user = pwd.getpwuid(uid).pw_name
    except KeyError:  # a container's arbitrary user
        user = str(uid)
    return f"host-{user if re.fullmatch(r'[A-Za-z0-9_.-]{1,58}', user) else uid}"

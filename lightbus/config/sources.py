"""Read a configuration from a file or a URL: YAML, JSON or TOML by its suffix, into a plain mapping.

The settings in it are not validated here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exceptions import InvalidConfiguration, UnexpectedConfigurationFormat
from .surroundings import expand_home

if TYPE_CHECKING:
    from urllib.request import OpenerDirector

__all__ = ["MAX_FETCHED_BYTES", "describe", "parse_settings", "read_settings"]

MAX_FETCHED_BYTES = 1024 * 1024
"""The most bytes of a configuration, which is usually a page or two."""


def read_settings(
    where: str | os.PathLike[str], *, seconds: float = 10.0, named_by: str = "LIGHTBUS_CONFIG"
) -> dict[str, Any]:
    """
    Return the mapping in a file (or https URL); an empty file is an empty mapping.

    `seconds` limits the fetching of a URL; `named_by` is the option or variable that errors say to check.
    Raises InvalidConfiguration if it cannot be read or parsed (with the line), UnexpectedConfigurationFormat if it is
    not a mapping.
    """
    place = os.fspath(where)
    raw = _fetch(place, seconds) if _is_url(place) else _read(expand_home(place), named_by)
    place = _without_secrets(place)
    return _mapping(_parse(raw, Path(place).suffix.lower(), place), f"The configuration {place}")


def parse_settings(text: str | bytes, suffix: str) -> dict[str, Any]:
    """Return the mapping in a text, whose format the suffix tells. Raises what `read_settings` raises."""
    if not isinstance(text, str | bytes):
        raise InvalidConfiguration(f"The configuration must be text, not {type(text).__name__}.")
    raw = text.encode() if isinstance(text, str) else text
    return _mapping(_parse(raw, suffix, f"text given as {suffix[1:].upper()}"), "The configuration text")


def _mapping(values: Any, what: str) -> dict[str, Any]:
    if values is None:
        return {}
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise UnexpectedConfigurationFormat(
            f"{what} holds a {kind} at its top. It must be a mapping of settings, as in `service_name: auth`."
        )
    return values


def describe(where: str | os.PathLike[str]) -> str:
    """Return the name of a source in messages: `"the file bus.yaml"`; a URL without its secret parts."""
    place = os.fspath(where)
    return _without_secrets(place) if _is_url(place) else f"the file {place}"


def _is_url(place: str) -> bool:
    return place.startswith(("http://", "https://"))


def _read(path: Path, named_by: str) -> bytes:
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_FETCHED_BYTES + 1)
    except FileNotFoundError as error:
        raise InvalidConfiguration(
            f"There is no configuration file {path} (looked for from {os.getcwd()}). Check the path, "
            f"or {named_by} if that named it."
        ) from error
    except OSError as error:
        raise InvalidConfiguration(f"The configuration file {path} cannot be read: {error.strerror}.") from error
    if len(raw) > MAX_FETCHED_BYTES:
        raise InvalidConfiguration(
            f"The configuration file {path} is larger than {MAX_FETCHED_BYTES} bytes. Is it the right file?"
        )
    return raw


def _fetch(url: str, seconds: float) -> bytes:
    from http.client import HTTPException
    from urllib.error import HTTPError

    _refuse_open_http(url)
    give_up_at = time.monotonic() + seconds
    try:
        with _opener().open(url, timeout=seconds) as response:
            return _drain(response.read1, give_up_at)
    except (OSError, HTTPException) as error:
        if isinstance(error, HTTPError):
            error.close()  # an HTTPError is the response as well, and keeps the connection open
        raise InvalidConfiguration(
            f"The configuration {_without_secrets(url)} cannot be fetched: {error}. "
            f"Check the address, or use a local file."
        ) from error


def _drain(read_some: Callable[[int], bytes], give_up_at: float) -> bytes:
    """Read to the end, within limits of time and size."""
    body = bytearray()
    while chunk := read_some(65536):
        body += chunk
        if len(body) > MAX_FETCHED_BYTES:
            raise OSError(f"it is larger than {MAX_FETCHED_BYTES} bytes")
        if time.monotonic() > give_up_at:
            raise TimeoutError("it did not arrive in time")
    return bytes(body)


def _opener() -> OpenerDirector:
    """Return an opener that checks each redirect by `_refuse_open_http`, too."""
    import urllib.request

    class Redirects(urllib.request.HTTPRedirectHandler):
        def redirect_request(
            self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
        ) -> urllib.request.Request | None:
            _refuse_open_http(newurl)
            return super().redirect_request(req, fp, code, msg, headers, newurl)

    return urllib.request.build_opener(Redirects)


def _refuse_open_http(url: str) -> None:
    """Refuse an unencrypted fetch from another host: a man in the middle could choose our peers."""
    from ipaddress import ip_address
    from urllib.parse import urlsplit

    parts = urlsplit(url)
    if parts.scheme == "https":
        return
    try:
        on_this_host = parts.hostname == "localhost" or ip_address(parts.hostname or "").is_loopback
    except ValueError:
        on_this_host = False
    if parts.scheme != "http" or not on_this_host:
        raise InvalidConfiguration(
            f"The configuration {_without_secrets(url)} would be fetched unencrypted. Use https:// or a local file."
        )


def _without_secrets(place: str) -> str:
    """Return a URL without user, password, query and fragment, safe for a log; a path unchanged."""
    if not _is_url(place):
        return place
    from urllib.parse import urlsplit

    parts = urlsplit(place)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def _parse(raw: bytes, suffix: str, place: str) -> Any:
    try:
        text = raw.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError as error:
        raise InvalidConfiguration(f"The configuration {place} is not UTF-8 text: {error.reason}.") from error
    parse = {".json": _parse_json, ".toml": _parse_toml}.get(suffix, _parse_yaml)
    try:
        return parse(text, place)
    except RecursionError as error:
        raise InvalidConfiguration(f"The configuration {place} is nested too deeply to be one.") from error


def _parse_json(text: str, place: str) -> Any:
    import json

    try:
        return json.loads(text) if text.strip() else None
    except json.JSONDecodeError as error:
        raise InvalidConfiguration(f"{place}, line {error.lineno}: not valid JSON: {error.msg}.") from error


def _parse_toml(text: str, place: str) -> Any:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:  # its message names line and column
        raise InvalidConfiguration(f"{place}: not valid TOML: {error}.") from error


def _parse_yaml(text: str, place: str) -> Any:
    import yaml  # type: ignore[import-untyped, unused-ignore]

    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InvalidConfiguration(f"{place}{line}: not valid YAML: {problem}.") from error

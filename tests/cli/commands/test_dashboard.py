"""`lightbus dashboard`, as a process: address, access, and end."""

from __future__ import annotations

import importlib
import json
import os
import signal
import socket
import sys
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest

from lightbus.exceptions import InvalidConfiguration

if TYPE_CHECKING:
    from ..conftest import Commands

pytest.importorskip("starlette", reason="the extra dashboard is not installed")
pytest.importorskip("uvicorn", reason="the extra dashboard is not installed")

TOKEN = "a-token-of-twenty-four-or-more"


def get(url: str, **headers: str) -> tuple[int, bytes]:
    """Return the answer and its status."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=60) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        return error.code, error.read()


def test_it_is_served_until_ctrl_c(commands: Commands) -> None:
    """With --json the address is printed, and the page is served; Ctrl-C ends it with code 0."""
    process = commands.start("dashboard", "--port", "0", "--json")
    told = json.loads(process.wait_for_line(r"^\{.*\}$")[0])
    assert set(told) == {"url", "token"}
    status, page = get(told["url"], Authorization=f"Bearer {told['token']}")
    assert (status, b"<html" in page) == (200, True)
    process.signal(signal.SIGINT)
    assert process.wait() == 0, process.report()


def test_a_worker_that_is_killed_is_named(commands: Commands) -> None:
    """While a page is open it shows which worker was killed."""
    _, shop = commands.services()
    process = commands.start("dashboard", "--port", "0", "--json")
    told = json.loads(process.wait_for_line(r"^\{.*\}$")[0])
    asked = urllib.request.Request(
        f"{told['url']}api/stream/overview", headers={"Authorization": f"Bearer {told['token']}"}
    )
    with urllib.request.urlopen(asked, timeout=60) as answer:
        pages = (json.loads(line[6:]) for line in answer if line.startswith(b"data: "))
        next(page for page in pages if {"name": "shop", "up": 1}.items() <= named(page).items())
        shop.signal(signal.SIGKILL)
        page = next(
            page for page in pages if any("ended without a goodbye" in each["text"] for each in page["findings"])
        )
    assert (named(page)["states"], named(page)["up"]) == (["gone"], 0)
    [finding] = [each for each in page["findings"] if "goodbye" in each["text"]]
    assert finding["text"].startswith("shop ")
    assert [(each["from"], each["to"]) for each in page["edges"]] == [("auth", "shop")]


def named(page: dict[str, Any]) -> dict[str, Any]:
    """Return the page's data about the service `shop`, or nothing yet."""
    found: dict[str, Any] = next((each for each in page["services"] if each["name"] == "shop"), {})
    return found


def test_text_for_people(commands: Commands, tmp_path: Path) -> None:
    """The address, the allowed actions, and who needs the token, which is that of the file."""
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    process = commands.start("dashboard", "--port", "0", "--allow-actions", "--token-file", str(file))
    process.wait_for_line(
        r"is at http://127\.0\.0\.1:\d+/.*\(pages may call, fire, retry and drop\)\. Ctrl-C ends it\."
    )
    process.wait_for_line(TOKEN)
    process.signal(signal.SIGTERM)
    assert process.wait() == 0, process.report()


def test_port_that_is_in_use(commands: Commands) -> None:
    """The error has a remedy, and comes before any peer is searched."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        error = commands.run("dashboard", "--port", port, code=2).stderr
    assert f"The dashboard cannot listen at 127.0.0.1, port {port}" in error
    assert "Choose another one with --port" in error


def test_browser_that_is_waited_for(commands: Commands, tmp_path: Path) -> None:
    """A browser that blocks until its page is loaded, as one in a terminal: the dashboard serves meanwhile."""
    browser, end = tmp_path / "browser", tmp_path / "end"
    os.mkfifo(end)
    browser.write_text(
        f"#!{sys.executable}\n"
        "import sys, urllib.request\n"
        "print('page', urllib.request.urlopen(sys.argv[1] + 'login', timeout=60).status, flush=True)\n"
        f"open({str(end)!r}).read()\n"
    )
    browser.chmod(0o700)
    process = commands.start("dashboard", "--port", "0", "--open", env={"BROWSER": str(browser)})
    url = process.wait_for_line(r"is at (http://127\.0\.0\.1:\d+/)")[1]
    process.wait_for_line("page 200")
    assert get(url + "login")[0] == 200
    end.write_text("")
    process.signal(signal.SIGTERM)
    assert process.wait() == 0, process.report()


def test_no_browser_to_open(commands: Commands) -> None:
    """A note says that no browser could be started, and the dashboard is served."""
    nothing = {"PATH": "/nothing-is-here", "BROWSER": "", "DISPLAY": "", "WAYLAND_DISPLAY": "", "TERM": ""}
    process = commands.start("dashboard", "--port", "0", "--open", env=nothing)
    url = process.wait_for_line(r"is at (http://127\.0\.0\.1:\d+/)")[1]
    process.wait_for_line(f"There is no browser here that could be started: open {url} yourself.")
    assert get(url + "login")[0] == 200
    process.signal(signal.SIGTERM)
    assert process.wait() == 0, process.report()


@pytest.mark.parametrize("command", [("dashboard",), ("gateway", "--allow", "auth.*")])
def test_without_the_extra(command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says what to install."""
    monkeypatch.delitem(sys.modules, "lightbus.web.serving", raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    entered = getattr(importlib.import_module(f"lightbus.cli.commands.{command[0]}"), command[0])
    with pytest.raises(InvalidConfiguration, match=r"package uvicorn, which .* pip install 'lightbus\[dashboard\]'"):
        entered.main([*command[1:]], standalone_mode=False)

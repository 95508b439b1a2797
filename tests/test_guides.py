"""The programs of the tutorial and the how-to pages run unchanged, and print the documented output."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from helpers import Process, Processes, wait_until
from helpers.http import ask
from lightbus.cli import COMMANDS, _group

DOCS = Path(__file__).parents[1] / "docs"
CONTEXT = click.Context(_group)
TUTORIAL = (DOCS / "tutorial.md").read_text("utf-8")


def write_files(page: str, directory: Path) -> None:
    """Write the programs of a page whose first line gives a file name."""
    found = re.findall(r"^```python\n(# ([\w./]+\.py)\n.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert found
    for text, name in found:
        (directory / name).parent.mkdir(parents=True, exist_ok=True)
        (directory / name).write_text(text, "utf-8")


def commands_shown(page: str) -> list[tuple[list[str], str]]:
    """Return the commands of a page that are followed by their output, with the output."""
    found = re.findall(r"^```sh\n(lightbus [^\n]*)\n```\n\n```text\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    return [(command.split()[1:], shown) for command, shown in found]


def pytest_says(processes: Processes, directory: Path) -> str:
    """Run pytest, with tests in order, in a directory; return its output."""
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--basetemp=temporary"]
    process = processes.start([sys.executable, *words], cwd=directory)
    assert process.wait(60) == 0, process.report()
    return process.stdout


def web(processes: Processes, program: str, directory: Path) -> str:
    """Start a web program, and return its address."""
    pytest.importorskip("fastapi")
    pytest.importorskip("uvicorn")
    server: Process = processes.start([sys.executable, "-m", "uvicorn", program, "--port", "0"], cwd=directory)
    return server.wait_for_line(r"running on (http://127\.0\.0\.1:\d+)", 30)[1]


@pytest.mark.long
def test_steps_of_the_tutorial_work(processes: Processes, tmp_path: Path) -> None:
    """Each step works as described."""
    write_files(TUTORIAL, tmp_path)
    stock, orders = (processes.worker(cwd=tmp_path / name) for name in ("stock", "orders"))
    stock.wait_for_line("Ready")
    orders.wait_for_line("Events of stock .* arrive")
    steps = commands_shown(TUTORIAL)
    assert len(steps) == 4
    for words, shown in steps:
        process = processes.lightbus(*words, "--wait", "20", cwd=tmp_path)
        is_error = "Error: " in shown
        assert process.wait(20) == (5 if is_error else 0), process.report()
        assert shown.strip() in process.stderr if is_error else process.stdout == shown
    orders.wait_for_line("^order more tea$")

    url = web(processes, "web:app", tmp_path / "web")
    wait_until(lambda: ask(f"{url}/health")[0] == 200, 30)
    assert json.loads(ask(f"{url}/items/mug")[1]) == {"name": "mug", "count": 10}
    assert json.loads(ask(f"{url}/orders?name=mug&customer=Ada", b"")[1]) == "Ada gets mug, 9 left"


def test_the_tests_of_the_tutorial(processes: Processes, tmp_path: Path) -> None:
    """Pass."""
    write_files(TUTORIAL, tmp_path)
    assert "2 passed" in pytest_says(processes, tmp_path / "stock")


def test_idempotent_handler_of_the_guide_does_nothing_twice(processes: Processes, tmp_path: Path) -> None:
    """The handler of that page has the same effect when an event is delivered twice."""
    write_files((DOCS / "how-to/idempotent-handlers.md").read_text("utf-8"), tmp_path)
    assert "1 passed" in pytest_says(processes, tmp_path)


@pytest.mark.parametrize(("page", "passed"), [("around-each-call", 2), ("recurring-jobs", 1), ("start-and-stop", 1)])
def test_program_of_the_page_passes_its_tests(processes: Processes, tmp_path: Path, page: str, passed: int) -> None:
    """The program of the page passes the tests of the page."""
    write_files((DOCS / f"how-to/{page}.md").read_text("utf-8"), tmp_path)
    assert f"{passed} passed" in pytest_says(processes, tmp_path)


SHOP = """
import lightbus

bus = lightbus.create(service_name="shop")


class ShopApi(lightbus.Api):
    class Meta:
        name = "shop"

    def price(self, product: str) -> int:
        if product == "air":
            raise ValueError("air is free")
        return 40


bus.client.register_api(ShopApi())
"""


def test_gateway_of_the_guide_answers_as_documented(processes: Processes, tmp_path: Path) -> None:
    """The gateway accepts the calls in the OpenAPI document, and answers as documented; other APIs are unknown."""
    write_files((DOCS / "how-to/http.md").read_text("utf-8"), tmp_path)
    (tmp_path / "bus.py").write_text(SHOP)
    processes.worker(cwd=tmp_path).wait_for_line("Ready")
    url = web(processes, "gateway:app", tmp_path)

    def post(path: str, **arguments: object) -> tuple[int, Any]:
        status, text = ask(f"{url}{path}", json.dumps(arguments).encode(), headers={"content-type": "application/json"})
        return status, json.loads(text)

    written = processes.lightbus("openapi", "--api", "shop", "--wait", "20", cwd=tmp_path)
    assert written.wait(20) == 0, written.report()
    [path] = json.loads(written.stdout)["paths"]
    assert post(path, product="lamp") == (200, 40)
    assert post(path)[0] == 422
    status, told = post(path, product="air")
    assert (status, {*told}) == (500, {"error", "message"})
    assert "air is free" in told["message"]
    assert post("/internal.peer/info")[0] == 404


def curls_shown(page: str) -> list[tuple[str, str]]:
    """Return the requests of a page that are followed by their answer, with the answer."""
    return re.findall(r"^```sh\n(curl .*?)\n```\n.*?^```text\n(.*?)\n```$", page, re.MULTILINE | re.DOTALL)


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_the_session_with_the_gateway(processes: Processes, tmp_path: Path) -> None:
    """Each request on the page gets the documented answer; `...` stands for parts that differ."""
    pytest.importorskip("uvicorn")
    page = (DOCS / "gateway.md").read_text("utf-8")
    write_files((DOCS.parent / "README.md").read_text("utf-8"), tmp_path)
    [line] = [each for each in re.findall(r"^```text\n(.*?)\n```$", page, re.MULTILINE) if each.startswith("shop ")]
    (tmp_path / "tokens").write_text(f"{line}\n")
    (tmp_path / "tokens").chmod(0o600)
    processes.worker(cwd=tmp_path / "auth").wait_for_line("Ready")
    [command] = re.findall(r"^```sh\nlightbus (.*)\n```$", page, re.MULTILINE)
    gateway = processes.lightbus(*shlex.split(command), "--port", "0", "--wait", "20", cwd=tmp_path)
    place = gateway.wait_for_line(r"are open at http://(127\.0\.0\.1:\d+)/")[1]
    shown = curls_shown(page)
    assert len(shown) == 2
    for request, answer in shown:
        asked = processes.start(["sh", "-c", request.replace("127.0.0.1:8421", place)], cwd=tmp_path)
        assert asked.wait(60) == 0, asked.report()
        assert re.fullmatch(re.escape(answer).replace(re.escape("..."), ".*"), asked.stdout.strip()), asked.report()


def commands_named(page: str) -> list[list[str]]:
    """Return the commands that a page names between backticks, as words."""
    return [words.split()[1:] for words in re.findall(r"`(lightbus [^`]+)`", page)]


PAGES = ["cli/comparison.md", "how-to/index.md", "how-to/http.md", "tutorial.md"]


@pytest.mark.parametrize("name", PAGES)
def test_commands_named_in_guides_exist(name: str) -> None:
    """Each command that a page names exists, with its subcommand and its options."""
    named = commands_named((DOCS / name).read_text("utf-8"))
    assert named
    for words in named:
        command: click.Command = _group
        for word in words:
            if isinstance(command, click.Group) and word in command.list_commands(CONTEXT):
                found = command.get_command(CONTEXT, word)
                assert found is not None
                command = found
            elif word.startswith("-"):
                assert any(word in each.opts for each in command.params), f"{words}: {word}"
            else:
                assert command is not _group, words


def test_each_command_is_set_beside_others() -> None:
    """The comparison has every command, except those about this program itself."""
    compared = {words[0] for words in commands_named((DOCS / "cli/comparison.md").read_text("utf-8"))}
    assert {*COMMANDS} - compared == {"demo", "dumpschema", "dumpconfigschema", "version"}

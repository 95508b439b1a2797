"""`lightbus tail`, as a process, against real workers."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from helpers import wait_until

if TYPE_CHECKING:
    from ..conftest import Commands


def test_live_and_kept_events_are_shown_without_a_group(commands: Commands) -> None:
    """Live events in both formats, stored ones with --since, and no group is created."""
    commands.services()
    following = commands.start("tail", "auth.*")
    following.wait_for_line("Following the events of auth")
    other = commands.start("tail", "shop.*", "--json")
    commands.run("fire", "auth.user_registered", "username=sally")
    following.wait_for_line(r'auth\.user_registered +\{"username": "sally", "age": 0\}  auth \w{4}$')
    following.signal(signal.SIGINT)
    assert following.wait(60) == 0
    other.signal(signal.SIGTERM)
    other.wait(60)
    assert other.stdout == ""
    [kept] = commands.json("tail", "--since", "0", "--count", "1")
    assert (kept["api"], kept["event"], kept["kwargs"]["username"]) == ("auth", "user_registered", "sally")
    assert [group["name"] for group in commands.json("groups", "list")] == ["shop-greeter"]


def test_stored_events_are_in_order_of_time(commands: Commands) -> None:
    """With --since the events of several journals come as they were published, not journal by journal."""
    for where in ("one", "other"):
        commands.serve("auth", where=where).wait_for_line("Ready")
    names = [f"user{number}" for number in range(8)]
    for name in names:
        commands.run("fire", "auth.user_registered", f"username={name}")
    kept = commands.json("tail", "--since", "0", "--count", "8")
    assert [each["kwargs"]["username"] for each in kept] == names


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", ""])
def test_since_when_nothing_can_be(commands: Commands, since: str) -> None:
    """An invalid --since is refused with the valid forms."""
    process = commands.run("tail", "--since", since, code=2)
    assert f"{since!r} is neither an id of an event nor a date and time." in " ".join(process.stderr.split())


def objects(text: str, kind: str) -> list[dict[str, Any]]:
    """Return the objects of a type among the lines of a stream."""
    return [each for each in map(json.loads, text.splitlines()) if each["type"] == kind]


def test_rpc_shows_each_answered_call(commands: Commands) -> None:
    """With --rpc each call is shown when it was answered, nested ones as well, also of a worker that came later."""
    auth = commands.serve("auth")
    auth.wait_for_line("Ready")
    every = commands.start("tail", "--rpc")
    some = commands.start("tail", "auth.*", "--rpc", "--json", "--count", "2")
    every.wait_for_line("Following the events of auth and all calls")
    wait_until(lambda: auth.output.count("lightbus-cli") == 2, 20)  # both are there, and watch
    commands.run("call", "auth.check_password", "username=admin", "password=guess")
    every.wait_for_line(
        r'auth\.check_password\(username="admin", password="guess"\) = false  .*s  lightbus-cli \w{4} at auth'
    )
    commands.run("call", "auth.fail", code=5)
    every.wait_for_line(r"auth\.fail\(\) raised RuntimeError: as it should")
    assert some.wait(60) == 0
    checked, failed = objects(some.stdout, "call")
    assert (checked["kwargs"], checked["result"], checked["error"]) == (
        {"username": "admin", "password": "guess"}, False, None,
    )  # fmt: skip
    assert (failed["procedure"], failed["error"], failed["service"]) == ("fail", "builtins.RuntimeError", "auth")

    commands.listening("shop")

    def placed() -> bool:
        commands.run("call", "shop.orders.place", "username=admin")
        return "shop.orders.place" in every.stdout

    wait_until(placed, 20)  # the first may come before the new worker is watched
    every.wait_for_line(r"auth\.check_password\(.*\) = true .* shop \w{4} at auth")
    every.signal(signal.SIGINT)
    assert every.wait(60) == 0
    assert "internal.peer" not in every.stdout


def test_events_and_calls_are_filtered(commands: Commands) -> None:
    """Only calls, only failed calls, calls of one caller; events by their arguments."""
    auth = commands.serve("auth")
    auth.wait_for_line("Ready")
    calls = commands.start("tail", "--calls", "-n", "2")
    errors = commands.start("tail", "--errors")
    theirs = commands.start("tail", "--rpc", "--from", "nobody")
    old = commands.start("tail", "auth.*", "--where", "age > 17", "-n", "1")
    errors.wait_for_line("Following calls that fail;")
    old.wait_for_line("Following the events of auth;")
    theirs.wait_for_line("Following the events of auth and all calls;")
    calls.wait_for_line("Following all calls;")
    for age in (7, 70):
        commands.run("fire", "auth.user_registered", "username=sally", f"age={age}")
    commands.run("call", "auth.echo", "value=x")
    commands.run("call", "auth.fail", code=5)
    errors.wait_for_line(r"auth\.fail\(\) raised RuntimeError: as it should")
    assert (calls.wait(20), old.wait(20)) == (0, 0)
    assert re.findall(r"  (\S+)\(", calls.stdout) == ["auth.echo", "auth.fail"]
    assert ('"age": 70' in old.stdout, '"age": 7}' in old.stdout) == (True, False)
    for process in (errors, theirs):
        process.signal(signal.SIGINT)
        assert process.wait(20) == 0
    assert ("auth.echo" in errors.stdout, theirs.stdout) == (False, "")
    refused = commands.run("tail", "--errors", "--since", "0", code=2).stderr
    assert "--calls and --errors show no events" in refused


def test_fields_of_calls_and_acknowledgements(commands: Commands) -> None:
    """--acks shows which groups have handled an event or made it a dead letter; all fields are documented."""
    commands.services()
    commands.listening("mail")
    commands.run("fire", "auth.user_registered", "username=sally")
    wait_until(lambda: commands.look("dead", "list"), 10)
    told = commands.json("tail", "--since", "0", "--acks", "--rpc", "--count", "1")
    assert [each["type"] for each in told] == ["event", "ack", "ack"]
    event, *acks = told
    assert {ack["native_id"] for ack in acks} == {event["native_id"]}
    assert {ack["group"]: ack["status"] for ack in acks} == {"shop-greeter": "acked", "mail-fails": "dead"}
    following = commands.start("tail", "--acks", "--rpc")
    following.wait_for_line("Following")
    commands.run("fire", "auth.user_registered", "username=ada")
    following.wait_for_line(r"auth\.user_registered \S+ acked by shop-greeter$")
    following.wait_for_line(r"auth\.user_registered \S+ a dead letter of mail-fails$")
    commands.run("call", "auth.echo", "value=" + "x" * 40_000)
    following.wait_for_line(r"auth\.echo\(40\.0 kB\) = 40\.0 kB")


@pytest.mark.parametrize("columns", [80, 140])
def test_terminal_lines_begin_with_the_time(commands: Commands, columns: int) -> None:
    """On a terminal a line begins with the time, and control characters are escaped."""
    commands.services()
    commands.run("fire", "auth.user_registered", "username=\x1b[2Jsally")
    with commands.on_terminal(columns, "tail", "--since", "0", "--rpc", "--count", "2") as terminal:
        line = terminal.wait_for_line(r"^\d\d:\d\d:\d\d\.\d{3}  auth\.user_registered  ")
        assert re.search(r"\\u001b\[2Jsally", line)
        terminal.wait_for_line("Following")
        commands.run("call", "auth.echo", "value=\x1b[2J")
        assert re.search(r'auth\.echo\(value="\\u001b\[2J"\) = "\\u001b\[2J"', terminal.wait_for_line("auth.echo"))
        assert terminal.wait() == 0


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_closed_output_ends_it(commands: Commands, form: list[str]) -> None:
    """Once its output is closed it ends with the next line, silently, as other commands do."""
    commands.services()
    commands.run("fire", "auth.user_registered", "username=sally")
    command = [sys.executable, "-m", "lightbus", "tail", "--since", "0", "--wait", "20", *form]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        try:
            assert tail.stdout is not None
            assert tail.stderr is not None
            assert "user_registered" in tail.stdout.readline()
            tail.stdout.close()
            commands.run("fire", "auth.user_registered", "username=ada")
            tail.wait(60)
            said = tail.stderr.read()
        finally:
            tail.kill()
    assert "Traceback" not in said
    assert "failed" not in said


@pytest.mark.parametrize(
    ("shown", "act"),
    [
        (["--calls"], ["call", "auth.echo", "value=x"]),
        (["--errors", "--json"], ["call", "auth.fail"]),
        (["--acks"], ["fire", "auth.user_registered", "username=ada"]),
    ],
)
def test_closed_output_ends_it_whatever_it_shows(commands: Commands, shown: list[str], act: list[str]) -> None:
    """Also where the next line is a call or an acknowledgement: it does not follow on without a reader."""
    commands.services()
    code = 5 if "auth.fail" in act else 0
    command = [sys.executable, "-m", "lightbus", "tail", "--wait", "20", *shown]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as tail:
        try:
            assert tail.stdout is not None
            assert tail.stderr is not None
            if "--json" not in shown:
                assert "Following" in tail.stderr.readline()
                commands.run(*act, code=code)
            else:  # without a note, it may begin with a later call
                while not select.select([tail.stdout], [], [], 0.1)[0]:
                    commands.run(*act, code=code)
            assert "auth." in tail.stdout.readline()
            tail.stdout.close()
            commands.run(*act, code=code)
            tail.wait(60)
            said = tail.stderr.read()
        finally:
            tail.kill()
    assert "Traceback" not in said
    assert "failed" not in said

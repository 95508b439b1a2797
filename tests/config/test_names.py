from __future__ import annotations

import concurrent.futures.thread
import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lightbus.config import names
from lightbus.config.names import ServiceName, default_service_name, expand, problem_with
from lightbus.exceptions import InvalidConfiguration


@pytest.mark.parametrize(
    ("template", "pattern"),
    [
        ("auth", "auth"),
        ("{hostname}-{pid}", re.escape(socket.gethostname().lower()) + "-[0-9]+"),
        ("{random4}", "[0-9a-f]{4}"),
        ("{random8}", "[0-9a-f]{8}"),
        ("x-{random16}", "x-[0-9a-f]{16}"),
        ("{friendly}", "[a-z]+-[a-z]+-[0-9]{1,3}"),
    ],
)
def test_placeholder_is_filled_in(template: str, pattern: str) -> None:
    """Each placeholder is replaced by its value; other text is unchanged."""
    assert re.fullmatch(pattern, expand(template))


def test_pid_is_that_of_this_process() -> None:
    """`{pid}` is the number of the process that asks."""
    assert expand("{pid}") == str(os.getpid())


@pytest.mark.parametrize("template", ["{random16}", "{friendly}{random16}"])
def test_random_name_is_new_each_time(template: str) -> None:
    """Each expansion gives another name: nothing is cached across a fork."""
    assert expand(template) != expand(template)


def test_process_id_is_the_childs_after_fork() -> None:
    """A forked child that expands the template gets its own process id."""
    read_end, write_end = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write_end, expand("{pid}").encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        assert pipe.read() == str(child)
    os.waitpid(child, 0)


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("{hostnam}", "has an unknown placeholder {hostnam}. Did you mean 'hostname'? There are {hostname} {pid}"),
        ("{}", "has an unknown placeholder {}."),
        ("auth{", "has a brace that is not part of a placeholder"),
        ("{{pid}}", "has a brace that is not part of a placeholder"),
        (" ", "is empty; leave the setting out to get the default"),
        ("a" * 64, "is 64 bytes long; 63 is the most"),
        ("é" * 32, "is 64 bytes long; 63 is the most"),
        ("a/b", "must be printable, without '/' and without a dot in front"),
        ("..", "must be printable, without '/' and without a dot in front"),
        ("a\nb", "must be printable, without '/' and without a dot in front"),
    ],
)
def test_unusable_name_is_refused(template: str, problem: str) -> None:
    """The error of an invalid name says why, and what is valid."""
    with pytest.raises(InvalidConfiguration) as caught:
        expand(template)
    assert f"The name '{template}' {problem}" in str(caught.value)


@pytest.mark.parametrize(
    ("module_file", "name"),
    [
        ("/srv/shop/customers/bus.py", "customers"),
        ("/srv/my project (new)/bus.py", "my-project-new-"),
        ("/srv/.hidden/bus.py", "hidden"),
        ("/srv/appliances/bus.py", "appliances"),
        (f"/srv/{'long' * 30}/bus.py", ("long" * 30)[:63]),
        ("/srv/{pid}/bus.py", "-pid-"),
    ],
)
def test_default_service_name_is_the_directory(module_file: str, name: str) -> None:
    """Without a chosen name, the service has that of the directory its bus module lies in, made usable."""
    assert default_service_name(module_file) == ServiceName(name=name, says_something=True)


@pytest.mark.parametrize(
    ("module_file", "name"),
    [
        (None, "unnamed"),
        ("<stdin>", "unnamed"),
        ("/bus.py", "unnamed"),
        ("/app/bus.py", "app"),
        ("/srv/auth/SRC/bus.py", "SRC"),
        ("/srv/code/bus.py", "code"),
        ("/srv/service/bus.py", "service"),
        ("/srv/backend/bus.py", "backend"),
        ("/srv/scripts/bus.py", "scripts"),
        ("/tmp/bus.py", "tmp"),
        ("/home/bus.py", "home"),
        ("/home/sally/bus.py", "sally"),
        ("/Users/sally/bus.py", "sally"),
        ("/usr/lib/python3.11/site-packages/bus.py", "site-packages"),
        ("/usr/lib/python3.11/site-packages/company_bus/bus.py", "company_bus"),
        ("/usr/lib/python3/dist-packages/company_bus/bus.py", "company_bus"),
        (concurrent.futures.thread.__file__, "futures"),  # `asyncio.to_thread(lightbus.create)`
    ],
)
def test_meaningless_directory_name(module_file: str | None, name: str) -> None:
    """A directory name that unrelated services may share is no basis for durable listeners."""
    assert default_service_name(module_file) == ServiceName(name=name, says_something=False)


def test_own_home_directory_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The home directory of this user is known wherever it is."""
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_service_name(str(tmp_path / "bus.py")) == ServiceName(name=tmp_path.name, says_something=False)


def test_relative_module_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative `__file__` is resolved from the working directory."""
    (tmp_path / "orders").mkdir()
    monkeypatch.chdir(tmp_path / "orders")
    assert default_service_name("bus.py") == ServiceName(name="orders", says_something=True)


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    """The service keeps its name when a link to its newest release moves on."""
    (tmp_path / "2026-03-01").mkdir()
    (tmp_path / "orders").symlink_to(tmp_path / "2026-03-01")
    assert default_service_name(str(tmp_path / "orders" / "bus.py")).name == "orders"


@given(st.text(alphabet=st.characters(exclude_characters="/\0"), min_size=1))
@example("\ud800{x}")
def test_any_directory_gives_a_usable_name(directory: str) -> None:
    """The default name from any directory is valid."""
    assert problem_with(default_service_name(f"/srv/{directory}/bus.py").name) is None


@pytest.mark.parametrize(
    ("user", "bus"),
    [("sally", "host-sally"), ("DOMAIN\\sally", f"host-{os.getuid()}"), ("s" * 59, f"host-{os.getuid()}")],
)
def test_default_bus_name_is_the_users(monkeypatch: pytest.MonkeyPatch, user: str, bus: str) -> None:
    """The default bus is named after the user, or the user's number if that name cannot be part of one."""
    monkeypatch.setattr("pwd.getpwuid", lambda uid: type("Entry", (), {"pw_name": user}))
    assert names.default_bus_name() == bus


def test_default_bus_name_of_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """A user without an entry (an arbitrary one of a container) is known by number."""

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert names.default_bus_name() == f"host-{os.getuid()}"

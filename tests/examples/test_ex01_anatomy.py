"""The document's program, in processes as a reader would start them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import lightbus
from helpers import Process, Processes

pytestmark = pytest.mark.new_interpreters

EXAMPLE = Path(__file__).parents[2] / "examples" / "ex01_anatomy"


@pytest.fixture
def example(tmp_path: Path) -> Path:
    """Return a copy of the example: its processes leave byte code behind."""
    return Path(shutil.copytree(EXAMPLE, tmp_path / "ex01_anatomy"))


@pytest.fixture
def services(example: Path, processes: Processes) -> tuple[Process, Process]:
    """Start both services; they know each other when this returns."""
    auth, customers = processes.worker(cwd=example / "auth"), processes.worker(cwd=example / "customers")
    auth.wait_for_line(r"Events of customers .* arrive")
    customers.wait_for_line(r"Events of auth .* arrive")
    return auth, customers


def test_listener_in_other_service_creates_user(
    example: Path, services: tuple[Process, Process], processes: Processes
) -> None:
    """The script's call is answered, and each event it fires, called or `.fire`d, leads to a call that makes a user."""
    auth, customers = services
    script = processes.python("script.py", cwd=example)
    assert script.wait() == 0
    assert script.stdout.splitlines() == [
        "the password of admin is right",
        "fired customers.new_customer twice",
    ]
    for name in ("Sally", "Bertie"):  # the last link of each chain
        customers.wait_for_line(f"the customer {name} can log in now")
    assert sorted(auth.stdout.splitlines()) == [
        "created the user Bertie <bertie@example.com>",
        "created the user Sally <sally@example.com>",
    ]
    bus = lightbus.create()
    with bus.client:
        assert bus.auth.get_email(user="Sally") == "sally@example.com"


def test_services_take_their_names_from_their_directories(services: tuple[Process, Process]) -> None:
    """Nothing in the example names a service: `lightbus run` says which name it took."""
    auth, customers = services
    auth.wait_for_line("service 'auth'")
    customers.wait_for_line("service 'customers'")


def test_password_of_unknown_user_is_wrong(services: tuple[Process, Process]) -> None:
    """The caller gets the procedure's return value."""
    bus = lightbus.create()
    with bus.client:
        assert bus.auth.check_password(user="admin", password="secret") is True
        assert bus.auth.check_password(user="admin", password="guess") is False
        assert bus.auth.check_password(user="nobody", password="secret") is False

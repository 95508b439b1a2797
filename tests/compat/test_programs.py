"""Programs as users of 1.x have them, written in its way throughout: bus modules, Flask, Django, asyncio."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path

import pytest

from helpers import Process, Processes, wait_until
from helpers.http import ask, free_port, is_open

PROGRAMS = Path(__file__).parent / "programs"

pytestmark = [pytest.mark.new_interpreters, pytest.mark.long]


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """Return a copy of the programs: they leave byte code, and what they store."""
    return Path(shutil.copytree(PROGRAMS, tmp_path / "programs"))


def flask(processes: Processes, module: str, directory: Path) -> str:
    """Start a Flask program in the way of 1.x's tutorial; return its URL."""
    port = free_port()
    command = ("-m", "flask", "--app", f"{module}.web", "run", "--port", str(port))
    processes.python(*command, cwd=directory, name=f"flask-{module}")
    wait_until(lambda: is_open(port), 30)
    return f"http://127.0.0.1:{port}"


def end(worker: Process) -> None:
    """End a program in an orderly way."""
    worker.signal(signal.SIGTERM)
    assert worker.wait(30) == 0, worker.report()


def test_web_programs_and_services_of_a_store_work_together(processes: Processes, programs: Path) -> None:
    """Three services by two web programs: the store calls the images, and the dashboard counts what the store fires."""
    pytest.importorskip("flask")
    workers = [processes.worker(f"{name}.bus", cwd=programs) for name in ("image", "dashboard")]
    store, dashboard = (flask(processes, name, programs) for name in ("store", "dashboard"))
    for worker in workers:
        worker.wait_for_line("Ready", 30)
    status, page = ask(f"{store}/")
    assert (status, page.count("https://images.example/200/200/animals?_=http://store.example/")) == (200, 3)
    assert ask(f"{store}/pet/1")[0] == 200
    wait_until(lambda: ask(f"{dashboard}/") == (200, "<li>/: 1</li><li>/pet/1: 1</li>"), 30)
    for worker in workers:
        end(worker)


def test_a_django_project(processes: Processes, programs: Path) -> None:
    """Handlers use the ORM, a view calls one and fires for the other, and the project's tests mock the bus."""
    pytest.importorskip("django")
    project = programs / "project"
    made = processes.python("manage.py", "migrate", "--run-syncdb", cwd=project)
    assert made.wait(60) == 0, made.report()
    worker = processes.worker(cwd=project)
    tested = processes.python("manage.py", "test", cwd=project)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    processes.python("manage.py", "runserver", "--noreload", str(port), cwd=project, name="runserver")
    worker.wait_for_line("Ready", 30)
    wait_until(lambda: is_open(port), 30)
    assert ask(f"{url}/register/ada/secret") == (200, "registered")
    assert [ask(f"{url}/log-in/{who}")[1] for who in ("ada/secret", "ada/guess", "ben/secret")] == [
        "True", "False", "False"
    ]  # fmt: skip
    wait_until(lambda: ask(f"{url}/audit") == (200, "User ada created"), 30)
    assert tested.wait(60) == 0, tested.report()
    assert "Ran 3 tests" in tested.stderr
    end(worker)


def test_a_worker_in_another_program(processes: Processes, programs: Path) -> None:
    """A program's own loop has a worker, a server of its own, and calls others and itself; it ends when it wants to."""
    image = processes.worker("image.bus", cwd=programs)
    combined = processes.python("merged/combined.py", cwd=programs, name="combined")
    port = int(combined.wait_for_line(r"Listens on (\d+)", 30)[1])
    image.wait_for_line("Ready", 30)
    fired = processes.python(
        "-c", "from store.bus import bus; bus.store.page_viewed.fire(url='/pet/1')", cwd=programs, name="fire"
    )
    assert fired.wait(30) == 0, fired.report()

    def page() -> dict[str, object]:
        status, body = ask(f"http://127.0.0.1:{port}/x")
        assert status == 200
        found: dict[str, object] = json.loads(body)
        return found

    seen = wait_until(lambda: (found := page())["total"] and found, 30)
    assert seen == {"views": {"/pet/1": 1}, "total": 1, "image": "https://images.example/1/2/animals?_=/x"}
    end(image)
    combined.signal(signal.SIGTERM)
    assert combined.wait(30) == 0, combined.report()
    assert "Ended" in combined.stdout

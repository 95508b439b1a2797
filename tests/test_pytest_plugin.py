"""The fixtures, in a session of pytest as a user starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from helpers import Processes

pytestmark = pytest.mark.new_interpreters

MODULE = """
import lightbus

bus = lightbus.create(service_name="{name}")

class Api(lightbus.Api):
    happened = lightbus.Event(["what"])

    class Meta:
        name = "{name}"

    def whose(self) -> str:
        return "{name}"

bus.client.register_api(Api())
"""

TESTS = """
import pytest

def test_alone(lightbus_bus):
    assert lightbus_bus.client.api_registry.public()
    assert not lightbus_bus.client.is_worker

def test_served(lightbus_worker, lightbus_hub):
    assert lightbus_worker.{name}.whose() == "{name}"
    heard = []
    client = lightbus_hub.create(service_name="other")
    client.{name}.happened.listen(lambda message, what: heard.append(what), listener_name="ears")
    lightbus_hub.start(client)
    lightbus_worker.{name}.happened(what="it")
    lightbus_hub.wait_until_handled(30)
    assert heard == ["it"]
    assert lightbus_hub.wait_for_event("{name}.happened").kwargs == {{"what": "it"}}

def test_mocked(lightbus_mock, lightbus_module):
    lightbus_mock.mock_event_firing("{name}.happened")
    lightbus_mock.assert_event_not_fired("{name}.happened")
"""


def test_several_bus_modules_in_one_session(processes: Processes, tmp_path: Path) -> None:
    """Each directory of tests names the module that it is about, and all of them may be called bus.py."""
    for name in ("auth", "shop"):
        directory = tmp_path / name
        directory.mkdir()
        (directory / "bus.py").write_text(MODULE.format(name=name))
        (directory / f"test_{name}.py").write_text(TESTS.format(name=name))
        fixture = f"def lightbus_module():\n    return '{name}/bus.py'\n"
        (directory / "conftest.py").write_text(f"import pytest\n\n@pytest.fixture\n{fixture}")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --import-mode=importlib -p no:cacheprovider\n")
    session = processes.python("-m", "pytest", "-q", cwd=tmp_path)
    assert session.wait(60) == 0, session.report()
    assert "6 passed" in session.stdout


def test_the_setting_names_the_module(processes: Processes, tmp_path: Path) -> None:
    """It is a module name, or the path of a file; a missing file is reported."""
    (tmp_path / "my_bus.py").write_text(MODULE.format(name="auth"))
    (tmp_path / "test_it.py").write_text(
        "def test_it(lightbus_worker):\n    assert lightbus_worker.auth.whose() == 'auth'\n"
    )
    for module, expected in (("my_bus", "1 passed"), ("my_bus.py", "1 passed"), ("none.py", "there is no file")):
        (tmp_path / "pytest.ini").write_text(f"[pytest]\nlightbus_module = {module}\naddopts = -p no:cacheprovider\n")
        session = processes.python("-m", "pytest", "-q", cwd=tmp_path, name=module)
        session.wait(60)
        assert expected in session.stdout, session.report()


def test_missing_module_names_the_setting(processes: Processes, tmp_path: Path) -> None:
    """The error names the pytest setting: there is no command line of Lightbus in tests."""
    (tmp_path / "test_it.py").write_text("def test_it(lightbus_bus): pass\n")
    session = processes.python("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path), cwd=tmp_path)
    assert session.wait(60) == 1
    assert "named by `lightbus_module` in pytest's settings" in session.output


def test_nothing_is_imported_before_it_is_asked_for(processes: Processes, tmp_path: Path) -> None:
    """A session that uses no fixture pays for none."""
    (tmp_path / "test_it.py").write_text(
        "import sys\n\ndef test_it():\n    assert 'lightbus.client' not in sys.modules\n"
    )
    session = processes.python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path)
    assert session.wait(60) == 0, session.report()

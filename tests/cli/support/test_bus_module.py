"""The errors of commands when the bus module cannot be loaded."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from helpers import Processes
from lightbus import FailedToImportBusModule, InvalidConfiguration, NoBusFoundInBusModule
from lightbus.cli.support.bus_module import file_of, is_module_there, load_bus

WORKING = "import lightbus\nbus = lightbus.create()\n"


@pytest.fixture(autouse=True)
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a directory of the test's own, and forget the modules imported from it."""
    here = tmp_path / "shop"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.setattr(sys, "modules", {**sys.modules})
    return here


def test_module_of_working_directory_is_loaded(directory: Path) -> None:
    """Without a name it is `bus`, from the working directory."""
    (directory / "bus.py").write_text(WORKING)
    bus, module = load_bus(None)
    assert file_of(module) == str(directory / "bus.py")
    assert bus is module.bus


def test_environment_names_the_module(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`LIGHTBUS_MODULE` is used if the command line names none."""
    (directory / "wires.py").write_text(WORKING)
    monkeypatch.setenv("LIGHTBUS_MODULE", "wires")
    assert load_bus(None)[1].__name__ == "wires"
    (directory / "bus.py").write_text(WORKING)
    assert load_bus("bus")[1].__name__ == "bus"


def test_whether_there_is_a_module(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bus.py in the working directory counts though only the script's own directory is on the path."""
    monkeypatch.setattr(sys, "path", [each for each in sys.path if each not in ("", str(directory))])
    (directory / "bus").mkdir()  # is no module
    assert [is_module_there(name) for name in (None, "wires")] == [False, True]
    monkeypatch.setenv("LIGHTBUS_MODULE", "wires")
    assert is_module_there(None)
    monkeypatch.setenv("LIGHTBUS_MODULE", "")
    assert not is_module_there(None)
    (directory / "bus.py").write_text(WORKING)
    assert is_module_there(None)


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("bus.py", "Run: lightbus run --bus bus"),
        ("auth/bus.py", "Run: cd auth && lightbus run --bus bus"),
        ("../my shop/bus.py", "Run: cd '../my shop' && lightbus run --bus bus"),
        ("auth/bus", "Run: cd auth && lightbus run --bus bus"),
    ],
)
def test_path_of_file_is_refused_with_the_command_that_was_meant(name: str, command: str) -> None:
    """A file instead of a module is a common mistake: the message holds the right command."""
    with pytest.raises(FailedToImportBusModule) as caught:
        load_bus(name)
    assert str(caught.value).endswith(command)


def test_modules_nearby_are_named(directory: Path) -> None:
    """In the wrong directory the error names the directory with such a module."""
    for service in ("auth", "customers"):
        (directory / service).mkdir()
        (directory / service / "bus.py").write_text(WORKING)
    with pytest.raises(FailedToImportBusModule) as caught:
        load_bus(None)
    assert f"There is no module 'bus' in {directory}" in str(caught.value)
    assert str(caught.value).endswith("There are auth/bus.py, customers/bus.py. Run: cd auth && lightbus run --bus bus")


def test_module_above_is_named(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One directory too deep is noticed, too."""
    (directory / "bus.py").write_text(WORKING)
    (directory / "tests").mkdir()
    monkeypatch.chdir(directory / "tests")
    with pytest.raises(
        FailedToImportBusModule, match=r"There is \.\./bus\.py\. Run: cd \.\. && lightbus run --bus bus$"
    ):
        load_bus(None)


def test_nothing_nearby_is_nothing_said() -> None:
    """Without such a module nearby there is no hint."""
    with pytest.raises(FailedToImportBusModule) as caught:
        load_bus("wires.of.nobody")
    assert "There is no module 'wires.of.nobody'" in str(caught.value)
    assert "Run:" not in str(caught.value)


def test_module_that_raises_shows_its_traceback(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback leads to the line of the module, past the import system's own frames."""
    (directory / "bus.py").write_text("def connect():\n    raise ValueError('no database.')\nconnect()\n")
    with pytest.raises(FailedToImportBusModule, match=r"raised ValueError .*: no database\. The traceback"):
        load_bus(None)
    shown = capsys.readouterr().err
    assert shown.startswith("Traceback")
    assert f'File "{directory / "bus.py"}", line 3' in shown
    assert shown.endswith("ValueError: no database.\n")
    assert "importlib" not in shown.replace("importlib.import_module(name)", "")


def test_missing_package_names_the_python(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A missing package is often installed in another environment: the error names the present one."""
    (directory / "bus.py").write_text("import surely_not_installed\n")
    with pytest.raises(FailedToImportBusModule) as caught:
        load_bus(None)
    assert "it imports 'surely_not_installed', which is not installed here" in str(caught.value)
    assert sys.executable in str(caught.value)
    assert "ModuleNotFoundError: No module named 'surely_not_installed'" in capsys.readouterr().err


def test_syntax_error_shows_the_line(directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A syntax error is shown with its line."""
    (directory / "bus.py").write_text("bus = (\n")
    with pytest.raises(FailedToImportBusModule, match="raised SyntaxError"):
        load_bus(None)
    assert f'File "{directory / "bus.py"}", line 1' in capsys.readouterr().err


def test_relative_import_names_the_directory_above(directory: Path) -> None:
    """For a module run inside its package, the error says from where to run it."""
    (directory / "bus.py").write_text("from . import models\n")
    with pytest.raises(FailedToImportBusModule, match=r": cd \.\. && lightbus run --bus shop\.bus$"):
        load_bus(None)


@pytest.mark.parametrize("code", ["import sys; sys.exit(0)", "raise SystemExit('bye')"])
def test_module_that_exits_is_a_failure(directory: Path, code: str) -> None:
    """A module that ends the program when it is imported would look like a worker that ended well."""
    (directory / "bus.py").write_text(code)
    with pytest.raises(FailedToImportBusModule, match="ended the program when it was imported"):
        load_bus(None)


def test_module_without_bus_is_named_with_its_file(directory: Path) -> None:
    """Another module of the same name, from elsewhere on the path, is recognised by its file."""
    (directory / "bus.py").write_text("x = 1\n")
    with pytest.raises(NoBusFoundInBusModule) as caught:
        load_bus(None)
    assert "Write there: bus = lightbus.create()" in str(caught.value)
    assert str(directory / "bus.py") in str(caught.value)


def test_wrong_setting_is_not_blamed_on_the_module(
    directory: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An invalid setting is reported as such, without a traceback."""
    (directory / "bus.py").write_text(WORKING)
    monkeypatch.setenv("LIGHTBUS_PEERS", "nowhere")
    with pytest.raises(InvalidConfiguration, match="LIGHTBUS_PEERS"):
        load_bus(None)
    assert capsys.readouterr().err == ""


def test_namespace_package_has_no_file(directory: Path, processes: Processes) -> None:
    """A directory with the module's name is imported as an empty package, and the error says so."""
    (directory / "bus").mkdir()
    worker = processes.lightbus("run", cwd=directory)
    assert worker.wait() == 1
    assert "It was loaded from a directory without __init__.py." in worker.stderr

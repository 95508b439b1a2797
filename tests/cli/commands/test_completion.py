"""`lightbus completion`: the scripts that have the shell complete."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from helpers import Processes

if TYPE_CHECKING:
    from ..conftest import Commands

FILES = {
    "bash": ".local/share/bash-completion/completions/lightbus",
    "zsh": ".local/share/lightbus/zsh/_lightbus",
    "fish": ".config/fish/completions/lightbus.fish",
}


@pytest.mark.parametrize("shell", FILES)
def test_completion_is_installed_for_the_users_shell(commands: Commands, tmp_path: Path, shell: str) -> None:
    """One command installs it for the shell in SHELL; for zsh it adds lines to .zshrc, once."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".zshrc").write_bytes(b"# mine \xe9\n")  # and not UTF-8
    environment = {"HOME": str(home), "SHELL": f"/bin/{shell}", "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    for _ in range(2):
        process = commands.run("completion", env=environment)
    file = home / FILES[shell]
    assert str(file) in process.stdout
    assert "_LIGHTBUS_COMPLETE" in file.read_text()
    assert (home / ".zshrc").read_bytes().count(bytes(file.parent)) == (1 if shell == "zsh" else 0)


@pytest.mark.unmeasured
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be another user")
def test_install_without_a_home(processes: Processes, tmp_path: Path) -> None:
    """Without a home directory the error says what to set."""
    user = ["setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups"]
    env = {"HOME": "", "XDG_DATA_HOME": "", "XDG_CONFIG_HOME": ""}
    process = processes.start([*user, sys.executable, "-m", "lightbus", "completion", "bash"], cwd="/", env=env)
    assert process.wait() == 2
    assert "This user has no home directory: set HOME" in process.stderr
    assert "Traceback" not in process.stderr


def test_show_and_unknown_shell(commands: Commands) -> None:
    """`--show` installs nothing; an unknown shell is refused."""
    assert "_LIGHTBUS_COMPLETE=bash_complete" in commands.run("completion", "bash", "--show").stdout
    assert "Name one of bash, zsh, fish" in commands.run("completion", code=2, env={"SHELL": "/bin/tcsh"}).stderr


def test_bash_leaves_no_space_behind_an_equals_sign(commands: Commands, tmp_path: Path) -> None:
    """A value follows directly; after a whole word there is a space."""
    script = commands.run("completion", "bash", "--show").stdout
    lightbus = tmp_path / "lightbus"
    lightbus.write_text("#!/bin/sh\necho plain,username=\n")
    lightbus.chmod(0o755)
    asks = f"""{script}
compopt() {{ echo compopt "$@"; }}
COMP_WORDS=(lightbus call auth.check_password "") COMP_CWORD=3
_lightbus_completion {lightbus}
echo "${{COMPREPLY[@]}}"
"""
    told = subprocess.run(["bash", "-c", asks], capture_output=True, text=True, check=False)
    assert told.stdout == "compopt -o nospace\nusername=\n", told.stderr
    lightbus.write_text("#!/bin/sh\necho plain,auth\n")
    assert subprocess.run(["bash", "-c", asks], capture_output=True, text=True, check=False).stdout == "auth\n"


def test_scripts_are_changed_where_they_have_to_be(commands: Commands) -> None:
    """What click writes for zsh still has the line that is changed for that."""
    assert "suffix=(-S '')" in commands.run("completion", "zsh", "--show").stdout

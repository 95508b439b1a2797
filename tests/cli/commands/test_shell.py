"""`lightbus shell`: a prompt that knows the bus."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..conftest import Commands

LINES = "print('answer', bus.auth.check_password(username='admin', password='1234'), 'auth' in dir(bus))\n"


def test_shell_is_a_client_without_a_bus_module(commands: Commands, tmp_path: Path) -> None:
    """Without a bus module it is a client; calls work, and names on the bus are completed."""
    commands.services()
    # As where IPython is not installed: the standard prompt reads what it is given.
    code = "import sys; sys.modules['IPython'] = None; from lightbus.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "shell", "--wait", "60"],
        input=LINES, capture_output=True, text=True, cwd=tmp_path, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "answer True True" in done.stdout
    assert "The bus is `bus`; on it: auth, shop.orders." in done.stderr


def test_shell_of_a_module(commands: Commands, tmp_path: Path) -> None:
    """With a bus.py it uses that module's bus, though a script has no working directory on its path (-P)."""
    commands.services()
    code = "import sys; sys.modules['IPython'] = None; from lightbus.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, "shell"],
        input="print('service', bus.client.service_name)\n", capture_output=True, text=True,
        cwd=tmp_path / "anywhere" / "shop", timeout=240, check=False,
    )  # fmt: skip
    assert (done.returncode, "service shop" in done.stdout) == (0, True), done.stderr

"""Kill a host together with its disk, and see its events handled at another one: `python run.py [--orders 30]`."""

import argparse
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
PLACES = ("north", "south", "tie-breaker")


def free_ports(count: int) -> list[int]:
    """Return ports of loopback that nobody has."""
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports


def start_servers(directory: Path, running: list[subprocess.Popen]) -> tuple[str, dict[str, subprocess.Popen]]:
    """Start a server at each place; return their URLs, and each server's process."""
    clients, routes = free_ports(3), free_ports(3)
    others = ",".join(f"nats://127.0.0.1:{port}" for port in routes)
    servers = {}
    for place, client, route in zip(PLACES, clients, routes, strict=True):
        command = ["nats-server", "-js", "-a", "127.0.0.1", "-p", str(client), "-sd", str(directory / place / "nats")]
        command += [
            "-n",
            place,
            "--cluster_name",
            "sites",
            "--cluster",
            f"nats://127.0.0.1:{route}",
            "--routes",
            others,
        ]
        servers[place] = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        running.append(servers[place])
    return ",".join(f"nats://127.0.0.1:{port}" for port in clients), servers


def start(program: str, *arguments: str, host: Path, servers: str) -> subprocess.Popen:
    """Start a program at a host: everything it keeps is in the host's own directory."""
    for part in ("data", "run", "tmp"):
        (host / part).mkdir(parents=True, exist_ok=True)
    own = {"HOME": host, "XDG_DATA_HOME": host / "data", "XDG_RUNTIME_DIR": host / "run", "TMPDIR": host / "tmp"}
    settings = {
        "LIGHTBUS_CONFIG": HERE / "lightbus.yaml",
        "LIGHTBUS_NATS_SERVERS": servers,
        "LIGHTBUS_BUS": f"two-sites-{os.getpid()}",
    }
    return subprocess.Popen(
        [sys.executable, str(HERE / program), *arguments],
        env={**os.environ, **{name: str(value) for name, value in {**own, **settings}.items()}},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def lose_the_north(shop: subprocess.Popen, server: subprocess.Popen, directory: Path) -> None:
    """Kill what runs there, and delete what it has kept."""
    for process in (shop, server):
        process.kill()
        process.wait()
    shutil.rmtree(directory)


def wait_for_line(process: subprocess.Popen, wanted: str, times: int = 1) -> list[str]:
    """Return the first lines of a program that begin so."""
    found = []
    for line in process.stdout:
        if line.startswith(wanted):
            found.append(line.strip())
        if len(found) == times:
            return found
    raise SystemExit(f"{process.args} ended, and has said '{wanted}' {len(found)} times")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--orders", type=int, default=30)
    orders = parser.parse_args().orders
    if shutil.which("nats-server") is None:
        raise SystemExit("There is no nats-server here: apt install nats-server")
    running: list[subprocess.Popen] = []
    directory = Path(tempfile.mkdtemp(prefix="two-sites-"))
    try:
        urls, servers = start_servers(directory, running)
        shop = start("north.py", str(orders), host=directory / "north", servers=urls)
        running.append(shop)
        wait_for_line(shop, "all are fired")
        print(f"{orders} orders were fired in the north, where nobody has handled any.", flush=True)
        lose_the_north(shop, servers["north"], directory / "north")
        print("The north is gone, with its disk.", flush=True)
        mails = start("south.py", host=directory / "south", servers=urls)
        running.append(mails)
        began = time.monotonic()
        lines = wait_for_line(mails, "mail to", orders)
        print(f"{len(set(lines))} orders were handled in the south {time.monotonic() - began:.1f} s later.", flush=True)
    finally:
        for process in running:
            process.kill()
            process.wait()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()

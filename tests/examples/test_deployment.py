"""The unit, the image and the manifests, read as the programs that use them do."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from lightbus.cli.commands.run import run
from lightbus.config import load_config
from lightbus.config.environment import ENVIRONMENT

EXAMPLE = Path(__file__).parents[2] / "examples" / "deployment"
MANIFESTS: list[dict[str, Any]] = list(yaml.safe_load_all((EXAMPLE / "kubernetes/auth.yaml").read_text()))
SHUTDOWN = load_config(service_name="auth", environ={}).worker


def options_of_run() -> set[str]:
    """Return the options of `lightbus run`."""
    return {option for parameter in run.params for option in parameter.opts}


def assert_runs(command: list[str]) -> None:
    """Assert that a command is `lightbus run` with existing options."""
    program, *arguments = command
    assert Path(program).name == "lightbus"
    assert arguments[0] == "run"
    assert {each for each in arguments if each.startswith("-")} <= options_of_run()
    assert CliRunner().invoke(run, [*arguments[1:], "--help"]).exit_code == 0


def kind(name: str) -> dict[str, Any]:
    """Return the one manifest of a kind."""
    [found] = [manifest for manifest in MANIFESTS if manifest["kind"] == name]
    return found


def test_systemd_unit_notifies_and_waits_for_running_calls() -> None:
    """It starts an existing command, is notified by the worker, and waits for running calls."""
    unit = configparser.ConfigParser(interpolation=None, strict=False, delimiters="=")
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(EXAMPLE / "lightbus@.service")
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert int(service["WatchdogSec"]) > 1
    assert int(service["TimeoutStopSec"]) > SHUTDOWN.drain_grace + SHUTDOWN.shutdown_timeout
    assert service["Environment"].partition("=")[0] in ENVIRONMENT
    assert_runs(shlex.split(service["ExecStart"]))


def instructions() -> list[tuple[str, str]]:
    """Return the instructions of the Dockerfile, with their values."""
    read_by = pytest.importorskip("dockerfile_parse").DockerfileParser
    with (EXAMPLE / "Dockerfile").open("rb") as file:  # by itself it would write into the directory
        parsed = read_by(fileobj=BytesIO(file.read())).structure
    return [(each["instruction"], each["value"]) for each in parsed if each["instruction"] != "COMMENT"]


def test_image_has_one_command_and_a_health_check() -> None:
    """It has one command, and a health check that the command serves."""
    found = dict(instructions())
    command = json.loads(found["ENTRYPOINT"])
    assert_runs(command)
    port = command[command.index("--health-port") + 1].rpartition(":")[2]
    check = json.loads(found["HEALTHCHECK"].partition(" CMD ")[2])
    assert f":{port}/ready" in check[2]
    assert found["EXPOSE"] == port
    assert found["STOPSIGNAL"] == "SIGTERM"


def test_image_is_well_made() -> None:
    """It passes a linter of Dockerfiles: a pinned base, known instructions, no cache left, no root, a volume."""
    found = instructions()
    names = [name for name, _ in found]
    known = {"FROM", "RUN", "ARG", "WORKDIR", "COPY", "USER", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK"}
    assert set(names) == known | {"ENTRYPOINT"}
    values = dict(found)
    assert re.fullmatch(r"python:3\.\d+-slim", values["FROM"])
    assert all("--no-cache-dir" in value for name, value in found if name == "RUN" and "pip install" in value)
    assert values["USER"] not in ("root", "0")
    assert names.index("USER") > max(number for number, name in enumerate(names) if name in ("RUN", "COPY"))
    assert values["WORKDIR"].startswith("/")
    assert values["ENV"].partition("=")[0] in ENVIRONMENT
    assert values["ENV"].partition("=")[2].startswith(values["VOLUME"])


def test_manifests_agree_in_names_ports_and_probes() -> None:
    """Names, ports and volumes match; probes ask existing pages; running calls are waited for."""
    stateful, service = kind("StatefulSet"), kind("Service")
    spec = stateful["spec"]["template"]["spec"]
    [container] = spec["containers"]
    assert stateful["spec"]["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == stateful["spec"]["template"]["metadata"]["labels"]
    assert spec["terminationGracePeriodSeconds"] > SHUTDOWN.drain_grace + SHUTDOWN.shutdown_timeout
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert {port["name"]: port["port"] for port in service["spec"]["ports"]}.items() <= ports.items()
    probes = {name: container[name]["httpGet"]["path"] for name in container if name.endswith("Probe")}
    assert probes == {"startupProbe": "/ready", "readinessProbe": "/ready", "livenessProbe": "/live"}
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in stateful["spec"]["volumeClaimTemplates"]}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes
    assert {variable["name"] for variable in container["env"]} <= {*ENVIRONMENT, "LIGHTBUS_CONFIG"}


def test_settings_in_the_manifests(tmp_path: Path) -> None:
    """They exist, with the ports of the container, and the headless service as the seed."""
    file = tmp_path / "lightbus.yaml"
    file.write_text(kind("ConfigMap")["data"]["lightbus.yaml"])
    config = load_config(config_file=file, service_name="auth", environ={})
    [container] = kind("StatefulSet")["spec"]["template"]["spec"]["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert (config.network.rpc_port, config.network.event_port) == (ports["rpc"], ports["events"])
    service = kind("Service")
    assert service["spec"]["clusterIP"] == "None"  # as a text: its name has the addresses of all pods
    assert list(config.discovery.peers) == [f"{service['metadata']['name']}:{ports['rpc']}"]


@pytest.mark.parametrize("name", ["Dockerfile", "lightbus@.service", "kubernetes/auth.yaml"])
def test_files_are_named(name: str) -> None:
    """The README names each of them."""
    assert f"]({name})" in (EXAMPLE / "README.md").read_text()

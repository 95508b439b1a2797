"""The documents, held against the code: programs run, links lead somewhere, names exist, tables are complete."""

from __future__ import annotations

import ast
import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from helpers import Processes
from lightbus.adapters.nats.settings import NatsSettings
from lightbus.cli import COMMANDS
from lightbus.config import config_schema, load_config
from lightbus.config.environment import ENVIRONMENT
from lightbus.core.peers import PeerState, Source
from lightbus.core.registry import Registry
from lightbus.wire.announcement import Announcement

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "lightbus"

DOCUMENTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/*/README.md")])
}
README = DOCUMENTS["README.md"]
ARCHITECTURE = "\n".join(text for name, text in DOCUMENTS.items() if name.startswith("docs/architecture/"))
CONFIGURATION = DOCUMENTS["docs/configuration.md"]
GUARANTEES = DOCUMENTS["docs/guarantees.md"]

TRY = "python3 -m venv .venv && .venv/bin/pip install -q . && .venv/bin/lightbus demo"
TEST = (
    "python3 -m venv .venv && .venv/bin/pip install -q --no-compile '.[dev]' && "
    ".venv/bin/pytest -n auto --dist=worksteal"
)

PLACES = ("lightbus", "tests", "docs", "examples")
NO_KEY = {
    "LIGHTBUS_CONFIG",
    "LIGHTBUS_CONTEXT",
    "LIGHTBUS_MODULE",
    "LIGHTBUS_NATS_CREDENTIALS",
    "LIGHTBUS_NATS_PASSWORD",
    "LIGHTBUS_NATS_SERVERS",
    "LIGHTBUS_NATS_TLS_CA",
    "LIGHTBUS_NATS_USER",
    "LIGHTBUS_TEST_SCALE",
    "LIGHTBUS_TEST_SEED",
}


class Block(NamedTuple):
    """A block of code in a document."""

    language: str
    code: str


def blocks(document: str, language: str = "") -> list[Block]:
    """Return the blocks of a document, in a language where one is given."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", document, flags=re.MULTILINE | re.DOTALL)
    return [Block(*each) for each in found if language in ("", each[0])]


def tables(document: str, first: str) -> Iterator[list[str]]:
    """Yield the rows of all tables whose first column is called so, without the marks of code around a cell."""
    for table in re.findall(rf"^\| {first} \|.*\n\|[-|]+\n((?:\|.*\n)+)", document, flags=re.MULTILINE):
        for line in str(table).splitlines():
            yield [cell.strip() for cell in line.strip("|").split("|")]


def slugs(document: str) -> set[str]:
    """Return the anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", document, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def prose(document: str) -> str:
    """Return a document without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", document, flags=re.MULTILINE | re.DOTALL)


# All documents


def test_links_lead_somewhere() -> None:
    """A link within the project leads to a file (of the site, from its pages), and to a heading that is in it."""
    links = [(name, target) for name, text in DOCUMENTS.items() for target in re.findall(r"\]\(([^)]+)\)", prose(text))]
    for name, target in links:
        if re.match(r"https?://", target):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{target} in {name}"
        if name.startswith("docs/"):
            is_in_site = file.resolve().is_relative_to(ROOT / "docs")
            assert is_in_site, f"{target} in {name} is not in the site: write it as code"
        if anchor:
            assert anchor in slugs(file.read_text(encoding="utf-8")), f"{target} in {name}"


def test_named_files_and_tests_exist() -> None:
    """A file that is named exists, in the project or below the package; so does a test that is named with it."""
    pattern = r"`([\w./]+/[\w.]+\.\w+)(?:::(\w+))?`"
    named = [(name, *each) for name, text in DOCUMENTS.items() for each in re.findall(pattern, prose(text))]
    for name, path, test in named:
        beside = ROOT / name
        candidates = [ROOT / path] if path.split("/")[0] in PLACES else [PACKAGE / path, beside.parent / path]
        found = [candidate for candidate in candidates if candidate.exists()]
        assert found, f"{path} in {name}"
        if test:
            is_there = re.search(rf"^(async )?def {test}\(", found[0].read_text(encoding="utf-8"), re.MULTILINE)
            assert is_there, f"{test} in {name}"


def test_python_in_documents_compiles() -> None:
    """Each program in a document is valid Python."""
    for name, text in DOCUMENTS.items():
        for _, code in blocks(text, "python"):
            ast.parse(code, filename=name)


def test_environment_variables_exist() -> None:
    """No document names a variable that nothing reads."""
    named = {(name, each) for name, text in DOCUMENTS.items() for each in re.findall(r"LIGHTBUS_[A-Z_]+[A-Z]", text)}
    assert [each for each in named if each[1] not in {*ENVIRONMENT, *NO_KEY}] == []


def test_each_command_has_a_section() -> None:
    """On the page of the command line; `lightbus run` has a page of its own."""
    sections = re.findall(r"^### lightbus (\S+)$", DOCUMENTS["docs/cli.md"], re.MULTILINE)
    assert sorted(sections) == sorted({*COMMANDS} - {"run"})


# README.md


def readme_file(name: str) -> str:
    """Return the program that the README calls so, in its first line."""
    [code] = [code for _, code in blocks(README, "python") if code.startswith(f"# {name}\n")]
    return code


def shown(containing: str) -> str:
    """Return the output in the README that contains this."""
    [text] = [code for _, code in blocks(README, "text") if containing in code]
    return text


def without_accidents(line: str) -> str:
    """Return a line of `lightbus run` without what differs from run to run: time, paths, bus, process."""
    for pattern, replacement in {
        r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}": "TIME",
        r"from \S*/auth/bus\.py$": "from PATH",
        r"bus '[^']+'": "BUS",
        r"ipc sockets in \S+,": "ipc sockets in PATH,",
        r"ipc://\S+/[0-9a-f]{16}\.rpc": "ipc://PATH",
        r"kept in \S+/[0-9a-f]{16}\.sqlite": "kept in PATH",
        r"as auth \S+ \([0-9a-f]{4}… on \S+\)": "as PROCESS",
    }.items():
        line = re.sub(pattern, replacement, line)
    return line


def peers_words(line: str) -> list[str]:
    """Return the words in a line of `lightbus peers`, without what differs from run to run."""
    line = re.sub(r"\b([\d.]+ (us|ms|s)|just now)\b", "TIME", line)
    line = re.sub(r"^(\w+ +)[a-z]+-[a-z]+-\d+ +\S+", r"\1PROCESS HOST", line)
    return line.split()


def test_readme_programs_run(processes: Processes, tmp_path: Path) -> None:
    """The README's programs, unchanged, print the documented output."""
    for name in ("auth/bus.py", "greeter/bus.py", "call.py"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(readme_file(name), encoding="utf-8")
    auth = processes.worker(cwd=tmp_path / "auth")
    auth.wait_for_line("Ready")
    greeter = processes.worker(cwd=tmp_path / "greeter")
    greeter.wait_for_line("Events of auth .* arrive")

    call = processes.python("call.py", cwd=tmp_path)
    assert call.wait() == 0
    printed, welcome = re.findall("[Ii]t prints `(.*)`, and the greeter `(.*)`", README)[0]
    assert call.stdout == f"{printed}\n"
    greeter.wait_for_line(f"^{re.escape(welcome)}$")

    told = processes.lightbus("peers", "--wait", "20", cwd=tmp_path, env={"COLUMNS": "1000"})
    assert told.wait(60) == 0
    for line, full in zip(shown("SERVICE").splitlines(), told.stdout.splitlines(), strict=True):
        words = iter(peers_words(full))
        assert all(word in words for word in peers_words(line)), line  # in this order, with others among them

    printed = shown("lightbus.worker").splitlines()
    assert [*map(without_accidents, auth.stderr.splitlines()[: len(printed)])] == [*map(without_accidents, printed)]


@pytest.mark.parametrize("number", range(2), ids=["discovery", "transport"])
def test_programs_of_the_ports_run(processes: Processes, tmp_path: Path, number: int) -> None:
    """The programs with their own discovery and transport discover each other, and call."""
    code = blocks(DOCUMENTS["docs/ports.md"], "python")[number].code
    (tmp_path / "own.py").write_text(code, encoding="utf-8")
    program = processes.python("own.py", cwd=tmp_path)
    assert program.wait(60) == 0, program.report()
    assert program.stdout == "12\n"


def test_program_of_the_hooks_runs(processes: Processes, tmp_path: Path) -> None:
    """Schedules and hooks work as documented, and a hook refuses a call."""
    page = DOCUMENTS["docs/hooks.md"]
    [program] = blocks(page, "python")
    (tmp_path / "bus.py").write_text(program.code, encoding="utf-8")
    worker = processes.worker(cwd=tmp_path)
    for line in re.findall("`([^`]+)`", page.partition("`lightbus run` prints ")[2].partition("; and")[0]):
        worker.wait_for_line(f"^{re.escape(line)}$")
    called = processes.lightbus("call", "greeter.greet", "name=Ada", cwd=tmp_path)
    assert (called.wait(60), called.stdout.strip()) == (0, "Hello Ada"), called.report()
    worker.wait_for_line("^greeter.greet took .* ms$")
    refused = processes.lightbus("call", "greeter.greet", "name=nobody", cwd=tmp_path)
    assert refused.wait(60) != 0
    assert "There is nobody to greet" in refused.stderr


REMOTE = """#!/bin/sh
# Stands in for ssh and scp: the other host is another home on this one.
case $(basename $0) in
    ssh) shift; cd {home} && "$@" ;;
    scp) cp -p "$2" {home}/"${3#web-2:}" ;;
esac
"""


def test_readme_lines_open_the_lan(processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The four lines that open a bus to the LAN work; a second home directory stands in for the second host."""
    [code] = [code for _, code in blocks(README, "sh") if "keys init" in code]
    lines = code.splitlines()
    assert len(lines) == 4
    assert lines[3].split("#")[0].strip() == "lightbus run"
    homes = [tmp_path / "web-1", tmp_path / "web-2"]
    for home in homes:
        home.mkdir()
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ssh", "scp"):
        (tools / name).write_text(REMOTE.replace("{home}", str(homes[1])))
        (tools / name).chmod(0o755)
    (tools / "lightbus").write_text(f'#!/bin/sh\nexec {sys.executable} -m lightbus "$@"\n')
    (tools / "lightbus").chmod(0o755)
    for name in ("XDG_CONFIG_HOME", "LIGHTBUS_BUS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("LIGHTBUS_INTERFACES", "127.0.0.1")
    (tmp_path / "auth").mkdir()
    (tmp_path / "auth/bus.py").write_text(readme_file("auth/bus.py"), encoding="utf-8")
    (tmp_path / "call.py").write_text(readme_file("call.py"), encoding="utf-8")

    brought = processes.start(["sh", "-e", "-c", "\n".join(lines[:3])], env={"HOME": str(homes[0])})
    assert brought.wait() == 0, brought.report()
    auth = processes.worker(cwd=tmp_path / "auth", env={"HOME": str(homes[0])})
    auth.wait_for_line("only for holders of the key")
    call = processes.python("call.py", cwd=tmp_path, env={"HOME": str(homes[1])})
    assert call.wait() == 0
    assert call.stdout == "True\n"


def open_files(directory: Path) -> Iterator[str]:
    """Yield what the descriptors in a directory of /proc are."""
    for descriptor in directory.iterdir():
        with suppress(FileNotFoundError):  # closed just now
            yield str(descriptor.readlink())


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
def test_default_opens_no_tcp_port(processes: Processes, tmp_path: Path) -> None:
    """A worker without a setting has no TCP socket at all, of neither kind."""
    (tmp_path / "bus.py").write_text(readme_file("auth/bus.py"), encoding="utf-8")
    worker = processes.worker("bus", "--service-name", "auth", cwd=tmp_path)
    worker.wait_for_line("Ready")
    process = Path(f"/proc/{worker.pid}")
    own = set(re.findall(r"socket:\[(\d+)\]", " ".join(open_files(process / "fd"))))
    tcp = [line for name in ("tcp", "tcp6") for line in (process / "net" / name).read_text().splitlines()[1:]]
    assert own
    assert not own & {line.split()[9] for line in tcp}  # proc(5): the tenth column is the inode


def test_readme_api_has_ten_lines() -> None:
    """An API is as short as the README says."""
    assert "An API in ten lines:" in README
    assert len(readme_file("auth/bus.py").splitlines()) == 10


def test_readme_is_short() -> None:
    """Summary, ten lines of code, two commands, and when not to use it: everything else is in docs/."""
    assert len(README.splitlines()) < 130


def test_readme_commands_are_those_of_ci() -> None:
    """The two lines for newcomers exist, and the one for the tests is what CI runs."""
    assert [code for _, code in blocks(README, "sh") if "venv" in code] == [f"{TRY}\n", f"{TEST}\n"]
    first = re.search(r"^python3 -m venv .*pytest.*$", README, flags=re.MULTILINE)
    assert first is not None
    assert first[0] == TEST


# docs/configuration.md


def settings(schema: dict[str, Any], node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each setting of a schema with its default, sections included; `<name>` stands for any name."""
    for key, value in node["properties"].items():
        section = inner(schema, value)
        if section is None:
            yield f"{prefix}{key}", value.get("default")
        else:
            star = "<name>." if "additionalProperties" in value else ""
            yield from settings(schema, section, f"{prefix}{key}.{star}")


def inner(schema: dict[str, Any], value: dict[str, Any]) -> dict[str, Any] | None:
    """Return the section in a property, directly or by name; None for a plain setting."""
    choices = [value, *value.get("anyOf", []), value.get("additionalProperties", {})]
    for choice in choices:
        found = schema["$defs"].get(str(choice.get("$ref", "")).rpartition("/")[2], {})
        if "properties" in found:
            return dict(found)
    return None


def documented() -> dict[str, list[str]]:
    """Return the rows of the settings by key, without code marks."""
    rows = [[cell.strip("`") for cell in row] for row in tables(CONFIGURATION, "key")]
    assert len({row[0] for row in rows}) == len(rows)
    return {row[0]: row[1:] for row in rows}


def test_every_setting_is_documented() -> None:
    """The page has each key of the schema with its variable and default, and no other."""
    schema = config_schema()
    variables = {".".join(path): variable for variable, path in ENVIRONMENT.items()}
    expected = {}
    for key, default in settings(schema, schema):
        expected[key] = (variables.get(key, ""), json.dumps(default))
    del expected["peers"]  # short for discovery.peers, and explained there
    expected["service_name"] = ("LIGHTBUS_SERVICE_NAME", "the directory of the module that calls create()")
    found = {key: (row[0], row[1].replace("`", "")) for key, row in documented().items()}
    assert found == expected
    assert load_config(module_file="/srv/auth/bus.py", environ={}).service_name == "auth"


NETWORK_YAML = [
    each for block in blocks(DOCUMENTS["docs/network.md"], "yaml") for each in yaml.safe_load_all(block.code)
]


def test_settings_of_the_network_are_settings() -> None:
    """The settings files in docs/network.md are valid, including those in Kubernetes manifests."""
    manifests = [each for each in NETWORK_YAML if "kind" in each]
    inner = [yaml.safe_load(text) for each in manifests for text in each.get("data", {}).values()]
    files = [load_config(each, environ={}) for each in (*inner, *(each for each in NETWORK_YAML if "kind" not in each))]
    assert len(files) > len(inner) > 0
    for config in files:
        for api in config.apis.values():
            if api.events.backend == "jetstream":
                assert NatsSettings.read(api.events.options, {}).replicas == len(api.events.options["servers"])


def test_manifests_of_the_network_are_those_of_the_example() -> None:
    """The manifests in docs/network.md equal those in examples/deployment, which a test reads."""
    example = yaml.safe_load_all((ROOT / "examples/deployment/kubernetes/auth.yaml").read_text(encoding="utf-8"))
    complete = {(each["kind"], each["metadata"]["name"]): each for each in example}
    manifests = [each for each in NETWORK_YAML if "kind" in each]
    assert {each["kind"] for each in manifests} == {"Service", "ConfigMap"}
    for each in manifests:
        assert each == complete[each["kind"], each["metadata"]["name"]]


def test_every_setting_has_a_meaning_and_a_unit() -> None:
    """Each row explains its setting in sentences; a time has its unit."""
    for key, (_, _, unit, meaning) in documented().items():
        assert meaning.endswith("."), key
        if re.search("timeout|ttl|interval|grace|wait", key):
            assert unit == "seconds", key


def test_every_variable_is_documented() -> None:
    """Variables without a key have their own table; what the code reads is on the page."""
    read = {
        name
        for file in PACKAGE.rglob("*.py")
        for name in re.findall(r"LIGHTBUS_[A-Z_]+[A-Z]", file.read_text(encoding="utf-8"))
    }
    assert read == set(re.findall(r"LIGHTBUS_[A-Z_]+[A-Z]", CONFIGURATION))


def test_configuration_example_is_valid() -> None:
    """The example file loads, and has the values in its comments."""
    [(_, text)] = blocks(CONFIGURATION, "yaml")
    config = load_config(yaml.safe_load(text), environ={})
    assert config.security.mode == "insecure"
    assert config.api("reports").rpc_timeout == 60
    assert config.api("other").rpc_timeout == 2
    assert not config.api("reports").validation.incoming


# docs/architecture/


def test_house_is_complete() -> None:
    """The list of modules names every module, and no other."""
    plan = next(code for _, code in blocks(ARCHITECTURE, "text") if code.startswith("floor 9"))
    named = re.findall(r"^  ([\w/]+\.py)", plan, flags=re.MULTILINE)
    modules = {path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py")}
    modules = {module for module in modules if "demo_services" not in module}
    assert modules - {*named} == set(), "not in the plan"
    assert {*named} - modules == set(), "in the plan only"
    assert len(named) == len({*named})


def test_modules_of_a_package_stand_together() -> None:
    """In the list, a package is one block that begins with the package itself: a reader finds it at once."""
    plan = next(code for _, code in blocks(ARCHITECTURE, "text") if code.startswith("floor 9"))
    for floor in re.split("^floor ", plan, flags=re.MULTILINE)[1:]:
        named = re.findall(r"^  ([\w/]+\.py)", floor, flags=re.MULTILINE)
        begins = [next(module) for _, module in groupby(named, lambda module: module.rpartition("/")[0])]
        packages = Counter(module.rpartition("/")[0] for module in begins)
        assert [package for package, count in packages.items() if count > 1] == []
        assert [module for module in begins if "/" in module and not module.endswith("/__init__.py")] == []


ROOMS = "|".join(path.name for path in PACKAGE.iterdir() if path.is_dir())


def test_named_modules_exist() -> None:
    """Every `package/module` that the pages on the architecture name exists."""
    named = {found[1] for found in re.finditer(rf"\b((?:{ROOMS})/(?:\w+/)*\w\w+)\b", ARCHITECTURE)}
    tests = PACKAGE.parent / "tests"
    there = {name for name in named for at in (PACKAGE, tests) if (at / name).is_dir() or (at / f"{name}.py").exists()}
    assert named - there == set()


def test_scripts_of_the_dashboard_are_explained() -> None:
    """The page on the dashboard names each of them."""
    rows = tables(DOCUMENTS["docs/architecture/browser.md"], "script")
    named = {name for row in rows for name in re.findall(r"`([\w*/]+\.js)`", row[0])}
    there = {path.name for path in (PACKAGE / "dashboard/assets").glob("*.js")}
    assert named == there | {"pages/*.js"}


ID, ENDPOINT = "4f2a00112233445d", "ipc:///run/4f2a00112233445d.rpc"


def put_in(registry: Registry, what: str) -> None:
    """Apply an input, named as in the table, to a registry."""
    announcement = Announcement(bus="b", instance=ID, service="s", process="p", host="h")
    match what:
        case "announced":
            registry.announced(announcement, Source.DISCOVERY, 0.0)
        case "answered" | "answered, draining":
            registry.answered(
                announcement, 1.0, endpoint=ENDPOINT, event_endpoint="", draining=what.endswith("draining")
            )
        case "link lost":
            registry.lost(ID, 1.0, "went away")
        case "attempt failed":
            registry.silent(ID, 1.0, "does not answer")
        case "handshake refused":
            registry.denied(ID, 1.0, "has another key")


WAY_TO = {
    "unverified": ["announced"],
    "up": ["answered"],
    "draining": ["answered, draining"],
    "suspect": ["answered", "link lost"],
    "quarantined": ["announced", "attempt failed"],
    "refused": ["announced", "handshake refused"],
}


@pytest.mark.parametrize("row", [*tables(ARCHITECTURE, "state")], ids=lambda row: row[0])
def test_states_of_a_peer(row: list[str]) -> None:
    """Each cell of the table is what the registry does."""
    state, *results = row
    inputs = ["answered", "answered, draining", "link lost", "attempt failed", "handshake refused"]
    assert f"| state | {' | '.join(inputs)} |" in ARCHITECTURE
    for what, result in zip(inputs, results, strict=True):
        registry = Registry()
        for step in WAY_TO[state]:
            put_in(registry, step)
        assert registry.peers[ID].state is PeerState(state)
        put_in(registry, what)
        assert registry.peers[ID].state is PeerState(result), what


def test_every_state_is_in_the_table() -> None:
    """The table has a row for each state."""
    assert {row[0] for row in tables(ARCHITECTURE, "state")} == {state.value for state in PeerState}


# docs/guarantees.md


def test_every_promise_names_its_test() -> None:
    """Each row of the guarantees names an existing test."""
    rows = [*tables(GUARANTEES, "promise")]
    assert rows
    for promise, tests in rows:
        assert re.fullmatch(r"`[\w/.]+::\w+`(, `[\w/.]+::\w+`)*", tests), promise

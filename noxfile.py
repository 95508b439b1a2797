"""
The checks of this project, each in an environment of its own that is kept between runs: `nox`, `nox -s lint`.

What they install is read from pyproject.toml, so that a version is written down once.
"""

from __future__ import annotations

from pathlib import Path

import nox

nox.needs_version = ">=2025.2"
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = True
nox.options.sessions = ["lint", "types", "coverage"]

EXTRAS = nox.project.load_toml("pyproject.toml")["project"]["optional-dependencies"]
DEV, DOCS = EXTRAS["dev"], EXTRAS["docs"]
TESTING = (
    "pytest", "pytest-timeout", "pytest-xdist", "hypothesis", "coverage", "dockerfile-parse",
    "Django", "fastapi", "flask", "gunicorn", "SQLAlchemy", "uvicorn", "watchfiles",
    "psycopg[binary]", "psycopg2-binary", "PyMySQL",
    "openapi-spec-validator", "opentelemetry-sdk", "prometheus-client",
    "axe-playwright-python", "pillow", "playwright",
)  # fmt: skip


@nox.session
def lint(session: nox.Session) -> None:
    """Hold the code against ruff's format and rules."""
    session.install(*_dev("ruff"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types, strictly: the library, its public forms in tests/typing, the tests' own tools."""
    session.install("-e", ".", *_dev("mypy", "types-PyYAML", "nox", *TESTING))
    session.run("mypy")  # what and how is in pyproject.toml


@nox.session
def tests(session: nox.Session) -> None:
    """Test the wheel that users get."""
    _install_wheel(session)
    session.run("pytest", *session.posargs)


@nox.session
def coverage(session: nox.Session) -> None:
    """Test the wheel, and measure which of its lines and branches ran, in child processes too."""
    _install_wheel(session)
    session.env["COVERAGE_FILE"] = str(Path.cwd() / ".coverage")  # children run elsewhere
    session.run("coverage", "erase")
    # Coverage's start-up hook measures every Python of the environment while this variable names the settings.
    session.run("pytest", *session.posargs, env={"COVERAGE_PROCESS_START": str(Path.cwd() / "pyproject.toml")})
    session.run("coverage", "combine", "--quiet")
    session.run("coverage", "report")


@nox.session
def examples(session: nox.Session) -> None:
    """Run the examples as their readers would: the tests that start them as processes."""
    _install_wheel(session)
    session.run("pytest", "tests/examples", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Test with the full counts, the long tests included; takes its time."""
    _install_wheel(session)
    session.run(
        "pytest", "-m", "soak or not soak", "--timeout=1800", *session.posargs, env={"LIGHTBUS_TEST_SCALE": "1"}
    )


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the bus against raw ZeroMQ in the same run; prints a table and writes bench.json."""
    _install_wheel(session)
    session.run("python", "tests/bench", "--json", "bench.json", *session.posargs)


@nox.session
def stores(session: nox.Session) -> None:
    """Measure what keeps events side by side: journals, and a JetStream of one server and of three (`--events`)."""
    _install_wheel(session)
    session.install(*_dev("nats-py"))
    session.run("python", "tests/bench/stores.py", *session.posargs)


@nox.session
def chaos(session: nox.Session) -> None:
    """Kill, stop, restart and beset processes while events flow, and show that none is lost (`--minutes`, `--seed`)."""
    _install_wheel(session)
    session.run("python", "tests/chaos", *session.posargs)


@nox.session
def leaders(session: nox.Session) -> None:
    """Kill the leader of a JetStream again and again while events flow, and show that none is lost (`--events`)."""
    _install_wheel(session)
    session.install(*_dev("nats-py"))
    session.run("python", "tests/chaos/leaders.py", *session.posargs)


@nox.session
def steady(session: nox.Session) -> None:
    """Restart processes every few seconds, and show that those beside them do not grow (`--minutes`, `--every`)."""
    _install_wheel(session)
    session.run("python", "tests/chaos/steady.py", *session.posargs)


@nox.session
def scale(session: nox.Session) -> None:
    """Look for an hour at the dashboard of 100 workers that fire 5,000 events a second (`--minutes`, `--rate`)."""
    _install_wheel(session)
    session.run("python", "tests/browser/scale.py", *session.posargs)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documents as a site, in site/; a warning is an error."""
    session.install("-e", ".", *DOCS)
    session.run("mkdocs", "build", *session.posargs, env={"NO_MKDOCS_2_WARNING": "1"})


@nox.session
def pictures(session: nox.Session) -> None:
    """Draw the dashboard's pages for the documents and the tests; of a bus that is asked anew with `--anew`."""
    _install_wheel(session)
    session.run("python", "tests/browser", *session.posargs)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Give 10,000,000 damaged messages to decoders and handlers (`--inputs`, `--seed`); takes an hour."""
    _install_wheel(session)
    session.run("python", "tests/fuzz", *session.posargs)


def _dev(*names: str) -> list[str]:
    """Return the requirements of these packages as the `dev` extra has them."""
    found = [entry for entry in DEV if entry.rstrip("*.,<>=0123456789") in names]
    if len(found) != len(names):
        raise ValueError(f"not all of {names} are in the dev extra of pyproject.toml")
    return found


def _install_wheel(session: nox.Session) -> None:
    """
    Install the package as users do (pip builds the wheel anew, each time) with what the tests need.

    The checkout's own `lightbus/` must not get in front of it: PYTHONPATH is emptied, pytest puts only tests/ on
    the path, and nothing is run by `python -m`, which would add the working directory.
    """
    session.install(".", *_dev(*TESTING))
    session.env["PYTHONPATH"] = ""

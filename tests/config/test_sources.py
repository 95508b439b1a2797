from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lightbus.config.sources import MAX_FETCHED_BYTES, describe, read_settings
from lightbus.exceptions import InvalidConfiguration, UnexpectedConfigurationFormat

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def web_server(answer: Answer) -> Iterator[str]:
    """Serve GET requests on loopback by `answer`; yield the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answer(self)

        def log_message(self, *_args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


def page(body: bytes) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(200)
        request.end_headers()
        request.wfile.write(body)

    return answer


def redirection(target: str) -> Answer:
    def answer(request: BaseHTTPRequestHandler) -> None:
        request.send_response(302)
        request.send_header("Location", target)
        request.end_headers()

    return answer


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bus.yaml", "bus:\n  name: main\n"),
        ("bus.yml", "bus: {name: main}"),
        ("bus.json", '{"bus": {"name": "main"}}'),
        ("bus.TOML", '[bus]\nname = "main"\n'),
        ("bus.conf", "bus:\n  name: main\n"),
        ("bus", "\ufeffbus:\n  name: main\n"),
    ],
)
def test_suffix_decides_the_language(tmp_path: Path, name: str, text: str) -> None:
    """YAML, JSON and TOML give the same settings; an unknown suffix is read as YAML."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert read_settings(tmp_path / name) == {"bus": {"name": "main"}}


@pytest.mark.parametrize("name", ["bus.yaml", "bus.json", "bus.toml"])
def test_empty_file_is_no_settings(tmp_path: Path, name: str) -> None:
    """A file with nothing in it sets nothing."""
    (tmp_path / name).write_text("\n")
    assert read_settings(str(tmp_path / name)) == {}


def test_home_directory_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`~` in a path is the home directory."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "bus.yaml").write_text("service_name: auth")
    assert read_settings("~/bus.yaml") == {"service_name": "auth"}


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("bus.yaml", "a: 1\nb: 2\n\tc: 3\n", "bus.yaml, line 3: not valid YAML: "),
        ("bus.yaml", "a: \x07", "bus.yaml: not valid YAML: unacceptable character"),
        ("bus.json", '{\n"a": 1,\n}', "bus.json, line 3: not valid JSON: "),
        ("bus.toml", "a = 1\nb = \n", "at line 2, column 5"),
    ],
)
def test_syntax_error_names_the_line(tmp_path: Path, name: str, text: str, problem: str) -> None:
    """The error names the file and, if the parser knows it, the line."""
    (tmp_path / name).write_text(text)
    with pytest.raises(InvalidConfiguration) as caught:
        read_settings(tmp_path / name)
    assert problem in str(caught.value)


def test_binary_file_is_refused(tmp_path: Path) -> None:
    """The error says that the file is not text."""
    (tmp_path / "bus.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidConfiguration, match="is not UTF-8 text"):
        read_settings(tmp_path / "bus.yaml")


@pytest.mark.parametrize(("text", "kind"), [("- a\n- b\n", "list"), ("just words", "str"), ("42", "int")])
def test_top_must_be_a_mapping(tmp_path: Path, text: str, kind: str) -> None:
    """The error names the type found, and the expected form."""
    (tmp_path / "bus.yaml").write_text(text)
    with pytest.raises(UnexpectedConfigurationFormat, match=f"holds a {kind} at its top. It must be a mapping"):
        read_settings(tmp_path / "bus.yaml")


def test_missing_file_is_named_with_its_directory(tmp_path: Path) -> None:
    """The error names the missing file, and the directory it was searched from."""
    with pytest.raises(InvalidConfiguration, match=r"There is no configuration file .*nowhere\.yaml \(looked for from"):
        read_settings(tmp_path / "nowhere.yaml")


def test_unreadable_file_is_refused_with_the_reason(tmp_path: Path) -> None:
    """The error of an unreadable file (here: a directory) has the reason."""
    with pytest.raises(InvalidConfiguration, match=r"cannot be read: Is a directory\."):
        read_settings(tmp_path)


def test_fetched_from_this_host() -> None:
    """A URL is fetched; its path's suffix decides the language."""
    with web_server(page(b'{"service_name": "auth"}')) as address:
        assert read_settings(f"{address}/bus.json?token=secret") == {"service_name": "auth"}


@pytest.mark.parametrize(
    "url",
    ["http://10.0.0.7/bus.yaml", "http://config.example.org/bus.yaml", "http:///bus.yaml"],
)
def test_plain_http_of_another_host_is_refused(url: str) -> None:
    """An unencrypted configuration from elsewhere is refused before anything is sent."""
    with pytest.raises(InvalidConfiguration, match=r"would be fetched unencrypted\. Use https:// or a local file"):
        read_settings(url)


@pytest.mark.parametrize("target", ["http://10.0.0.7/bus.yaml", "ftp://127.0.0.1/bus.yaml"])
def test_redirection_to_plain_http_is_refused(target: str) -> None:
    """A redirection does not get round that."""
    with web_server(redirection(target)) as address, pytest.raises(InvalidConfiguration, match="unencrypted"):
        read_settings(f"{address}/bus.yaml")


def test_redirection_on_this_host_is_followed() -> None:
    """A redirect to an allowed address is followed."""
    with web_server(page(b"service_name: auth")) as target, web_server(redirection(f"{target}/new.yaml")) as address:
        assert read_settings(f"{address}/bus.yaml") == {"service_name": "auth"}


def test_http_error_is_shown_without_secrets() -> None:
    """What the server answers is in the error; what may be secret in the address is not."""
    with web_server(lambda request: request.send_error(404)) as address, pytest.raises(InvalidConfiguration) as caught:
        read_settings(f"{address}/bus.yaml?token=secret")
    assert f"The configuration {address}/bus.yaml cannot be fetched: HTTP Error 404" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_address_without_a_server_is_refused_with_the_reason() -> None:
    """An https address without a server raises InvalidConfiguration, with the reason."""
    with socket.socket() as bound:  # and not listening: the port is ours, and refuses
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(InvalidConfiguration, match=r"/bus\.yaml cannot be fetched: .*refused.* Check the address"):
            read_settings(f"https://127.0.0.1:{bound.getsockname()[1]}/bus.yaml")


def test_endless_body_is_not_read_to_its_end() -> None:
    """A body without end is not read to its end."""
    with (
        web_server(page(b"#" * (MAX_FETCHED_BYTES + 1))) as address,
        pytest.raises(InvalidConfiguration, match="it is larger than 1048576 bytes"),
    ):
        read_settings(f"{address}/bus.yaml")


def test_slow_server_is_given_up() -> None:
    """Fetching from a server that never finishes its answer times out."""
    given_up = threading.Event()

    def trickle(request: BaseHTTPRequestHandler) -> None:
        page(b"service_name: ")(request)
        given_up.wait(60)

    with web_server(trickle) as address:
        with pytest.raises(InvalidConfiguration, match="cannot be fetched: "):
            read_settings(f"{address}/bus.yaml", seconds=0.1)
        given_up.set()


def test_slow_drops_are_given_up() -> None:
    """A server that sends a byte now and then does not delay us either."""
    given_up = threading.Event()

    def drip(request: BaseHTTPRequestHandler) -> None:
        page(b"")(request)
        while not given_up.wait(0.01):
            request.wfile.write(b"#")

    with web_server(drip) as address:
        with pytest.raises(InvalidConfiguration, match="it did not arrive in time"):
            read_settings(f"{address}/bus.yaml", seconds=0.2)
        given_up.set()


@pytest.mark.parametrize(
    ("where", "described"),
    [
        (Path("/srv/bus.yaml"), "the file /srv/bus.yaml"),
        ("https://sally:secret@example.org:8443/bus.yaml?token=secret#x", "https://example.org:8443/bus.yaml"),
    ],
)
def test_description_is_fit_for_a_log(where: str | Path, described: str) -> None:
    """A source is named without what may be secret in it."""
    assert describe(where) == described


@pytest.mark.parametrize("name", ["deep.yaml", "deep.json"])
def test_deeply_nested_garbage_is_refused(tmp_path: Path, name: str) -> None:
    """A file of nothing but brackets is refused like other garbage."""
    (tmp_path / name).write_text("[" * 100_000)
    with pytest.raises(InvalidConfiguration, match="nested too deeply"):
        read_settings(tmp_path / name)


def test_endless_file_is_refused() -> None:
    """A file without an end is read only so far."""
    with pytest.raises(InvalidConfiguration, match=r"/dev/zero is larger than \d+ bytes"):
        read_settings("/dev/zero")

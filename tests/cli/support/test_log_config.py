"""A file that sets logging up; what `lightbus run` does with it is in test_logs.py."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from lightbus.cli.support.log_config import set_up_logging
from lightbus.exceptions import InvalidConfiguration


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.yaml", "loggers: {log.config.test: {level: ERROR}}"),
        ("a.json", '{"loggers": {"log.config.test": {"level": "ERROR"}}}'),
        ("a.toml", '[loggers."log.config.test"]\nlevel = "ERROR"'),
    ],
)
def test_yaml_json_and_toml_are_read(tmp_path: Path, name: str, content: str) -> None:
    """YAML, JSON and TOML; `version: 1` need not be written, and loggers that are not named stay as they are."""
    other = logging.getLogger("log.config.other")
    (tmp_path / name).write_text(content)
    set_up_logging(str(tmp_path / name))
    assert logging.getLogger("log.config.test").level == logging.ERROR
    assert not other.disabled


def test_what_dictconfig_refuses(tmp_path: Path) -> None:
    """The error names the file, and the expected content."""
    (tmp_path / "a.yaml").write_text("formatters: 5")
    with pytest.raises(InvalidConfiguration, match=r"--log-config .*a\.yaml: .*\.dictConfig takes"):
        set_up_logging(str(tmp_path / "a.yaml"))


def test_file_that_is_not_there(tmp_path: Path) -> None:
    """The remedy is about this option, and no other."""
    with pytest.raises(InvalidConfiguration, match=r"no configuration file .*a\.yaml .* or --log-config"):
        set_up_logging(str(tmp_path / "a.yaml"))

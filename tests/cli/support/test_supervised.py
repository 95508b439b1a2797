"""A worker of `lightbus run --workers` whose supervisor is gone."""

from __future__ import annotations

import pytest

from lightbus.cli.support.supervised import PIPE, supervisor_pipe


def test_pipe_is_passed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of the worker are not supervised by that pipe."""
    monkeypatch.setenv(PIPE, "7")
    assert (supervisor_pipe(), supervisor_pipe()) == (7, None)

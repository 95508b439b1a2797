"""The dashboard and the alert rules, compared with the existing metrics."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "observability"
ROWS = r"^\| `(lightbus_\w+)` \| (\w+) \| ([^|]*) \|"
METRICS = {
    name: (kind, set(re.findall(r"`(\w+)`", labels)))
    for name, kind, labels in re.findall(ROWS, (ROOT / "docs/observability.md").read_text(), flags=re.MULTILINE)
}
ADDED_BY_PROMETHEUS = {"instance", "job", "le"}


def rules() -> list[dict[str, object]]:
    """Return the alert rules."""
    [group] = yaml.safe_load((EXAMPLE / "alerts.yml").read_text())["groups"]
    return list(group["rules"])


def expressions() -> Iterator[str]:
    """Yield the expressions of all rules and panels."""
    for rule in rules():
        yield str(rule["expr"])
    for panel in json.loads((EXAMPLE / "dashboard.json").read_text())["panels"]:
        for target in panel["targets"]:
            yield str(target["expr"])


def metric_of(name: str) -> tuple[str, set[str]]:
    """Return kind and labels of the metric that a series of this name belongs to."""
    for suffix in ("_bucket", "_count", "_sum"):
        whole = name.removesuffix(suffix)
        if whole != name and METRICS.get(whole, ("",))[0] == "histogram":
            return METRICS[whole]
    return METRICS[name]


@pytest.mark.parametrize("expression", [*expressions()])
def test_expressions_use_existing_metrics(expression: str) -> None:
    """Each name is a metric's, each label exists; brackets are closed; counters are shown as rates."""
    names = re.findall(r"\blightbus_\w+", expression)
    assert names or "up{" in expression
    for opening, closing in ("()", "[]", "{}"):
        assert expression.count(opening) == expression.count(closing)
    for name in names:
        kind, labels = metric_of(name)
        for by in re.findall(r"by \(([^)]*)\)", expression):
            assert set(re.split(r", *", by)) <= labels | ADDED_BY_PROMETHEUS
        for matchers, window in re.findall(rf"{name}\b(\{{[^}}]*\}})?(\[[^\]]+\])?", expression):
            assert set(re.findall(r"(\w+)=", matchers)) <= labels
            assert window or kind == "gauge"
    rated = re.findall(r"(\w+)\((lightbus_\w+)(?:\{[^}]*\})?\[", expression)
    assert all(
        function in {"gauge": ("deriv", "delta")}.get(metric_of(name)[0], ("rate", "increase"))
        for function, name in rated
    )


def test_rules_are_complete() -> None:
    """Each has what an alert needs: duration, severity, description, and remedy."""
    for rule in rules():
        assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"] in ({"severity": "page"}, {"severity": "ticket"})
        assert re.fullmatch(r"\d+m", str(rule["for"]))
        assert set(rule["annotations"]) == {"summary", "description"}  # type: ignore[call-overload]


def test_rules_are_documented() -> None:
    """The page for operators has each rule with its remedy."""
    page = (ROOT / "docs/operating.md").read_text()
    rows = dict(re.findall(r"^\| `(Lightbus\w+)` \| (.*) \|$", page, flags=re.MULTILINE))
    assert rows == {rule["alert"]: rule["annotations"]["description"] for rule in rules()}  # type: ignore[index]


def test_panels_do_not_overlap() -> None:
    """Each has its own place."""
    panels = json.loads((EXAMPLE / "dashboard.json").read_text())["panels"]
    places = {(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in panels}
    assert len(places) == len(panels) == len({panel["id"] for panel in panels})


def test_prometheus_scrapes_and_alerts() -> None:
    """Its settings name the rules, and the ports in the README."""
    settings = yaml.safe_load((EXAMPLE / "prometheus.yml").read_text())
    assert settings["rule_files"] == ["alerts.yml"]
    [job] = settings["scrape_configs"]
    assert job["job_name"] == "lightbus"
    assert "127.0.0.1:9100" in job["static_configs"][0]["targets"]

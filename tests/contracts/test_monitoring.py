"""The dashboard and the alert rules in deploy/: the metrics, labels and sections that they name exist."""

import inspect
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from service.limits import valkey
from service.metrics import REGISTRY
from tests.contracts.test_docs import anchors
from tests.support.servers import ROOT

DASHBOARD = json.loads((ROOT / "deploy/grafana/dashboard.json").read_text())
RULES = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0]["rules"]
OF_PROMETHEUS = {"job", "instance", "le"}  # labels that each series has there, and that of a histogram's buckets
_WORDS = {"and", "or", "unless", "bool", "offset", "by", "without", "on", "ignoring", "group_left", "group_right"}


@pytest.fixture(scope="module")
def labels_by_metric() -> dict[str, set[str]]:
    registered = REGISTRY._names_to_collectors.items()
    known = {name: {*getattr(collector, "_labelnames", ())} for name, collector in registered}
    with_a_setting = {"valkey_up": set[str]()}  # with VALKEY_URL only, which the tests do not set
    assert all(f'Gauge("{name}"' in inspect.getsource(valkey) for name in with_a_setting)
    return known | with_a_setting | {"up": set()}


def expressions() -> Iterator[Any]:
    for rule in RULES:
        yield pytest.param(rule["expr"], id=rule["alert"])
    for panel in DASHBOARD["panels"]:
        for target in panel["targets"]:
            yield pytest.param(target["expr"], id=f"{panel['title']} {target['refId']}")


@pytest.mark.parametrize("expression", list(expressions()))
def test_the_metrics_and_labels_exist(expression: str, labels_by_metric: dict[str, set[str]]) -> None:
    text = re.sub(r'"[^"]*"', '""', expression)
    grouping = r"\b(?:by|without|on|ignoring)\s*\(([^)]*)\)"
    grouped = {label.strip() for labels in re.findall(grouping, text) for label in labels.split(",")}
    text = re.sub(r"\[[^]]*\]", "", re.sub(grouping, "", text))
    outside = re.sub(r"\{[^}]*\}", "", text)
    found = {*re.findall(r"(?<!\w)([a-z_]+)\b(?!\s*\()", outside)} - _WORDS
    assert found
    given: set[str] = set()
    for name in found:
        assert name in labels_by_metric, name
        given |= labels_by_metric[name]
        for matchers in re.findall(rf"\b{name}\{{([^}}]*)\}}", text):
            assert {*re.findall(r"(\w+)\s*[=!]", matchers)} <= labels_by_metric[name] | OF_PROMETHEUS
    assert grouped <= given | OF_PROMETHEUS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: str(rule["alert"]))
def test_an_alert_says_what_is_wrong_and_where_to_read_on(rule: dict[str, Any]) -> None:
    assert rule["annotations"]["summary"].endswith(".")
    path, _, anchor = rule["annotations"]["runbook"].partition("#")
    assert anchor in anchors((ROOT / path).read_text())
    assert rule["labels"]["severity"] in ("critical", "warning")


def test_all_metrics_of_the_service_are_on_the_dashboard(labels_by_metric: dict[str, set[str]]) -> None:
    shown = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    ours = {name for name in labels_by_metric if not name.startswith(("python_", "process_", "up"))}
    roots = {re.sub(r"_(total|created|bucket|count|sum|info)$", "", name) for name in ours}
    assert [root for root in sorted(roots) if root not in shown] == []

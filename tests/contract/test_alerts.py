"""alerts.yaml and the dashboard ask only for metrics and labels that the router exports, and promtool agrees with them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from redistill.serving.router.decision import Decision
from redistill.serving.router.metrics import Metrics
from tests.infra.validators import INFRA, promtool, tool

ALERTS = yaml.safe_load((INFRA / "alerts.yaml").read_text(encoding="utf-8"))
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
DASHBOARD = json.loads((INFRA / "grafana/redistill.json").read_text(encoding="utf-8"))
OF_PROMETHEUS = {"up": {"job", "instance"}}
ADDED = {"job", "instance", "le"}
"""Labels that Prometheus adds to each series, and the border of a histogram."""


def exported() -> dict[str, set[str]]:
    """Every name at the router's /metrics with its labels, after one request of each kind."""
    metrics = Metrics()
    for ended in ("done", "left", "timeout"):
        decision = Decision("student", False, route="student", reason="mode", status=200, ended=ended, failures=[("student", "timeout")])
        metrics.count(decision)
    metrics.refused.labels("key").inc()
    for gauge in (metrics.sampled, metrics.compared, metrics.breaker):
        gauge.labels("teacher").set(0)
    return {
        sample.name: set(sample.labels) for family in text_string_to_metric_families(metrics.text().decode()) for sample in family.samples
    }


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The metrics of a PromQL expression, each with the labels that its braces name. Strings are emptied first, since they may hold anything."""
    plain = re.sub(r'"[^"]*"', '""', expression)
    plain = re.sub(r"\b(by|on|ignoring|without|group_left|group_right)\s*\([^)]*\)", " ", plain)
    for name, labels in re.findall(r"\b([a-zA-Z_:][\w:]*)\b\s*(?!\s*\()(\{[^}]*\})?", plain):
        if name not in ("and", "or", "unless", "offset", "bool", "by") and not re.fullmatch(r"[dhms]", name):
            yield name, set(re.findall(r"(\w+)\s*[=!]", labels))


def groupings(expression: str) -> set[str]:
    return {label.strip() for inside in re.findall(r"\bby\s*\(([^)]*)\)", expression) for label in inside.split(",")}


def expressions() -> list[str]:
    queries = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    variables = [v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"]
    names = [re.sub(r"label_values\((\w+), (\w+)\)", r"sum by (\2) (\1)", query) for query in variables]
    return [rule["expr"] for rule in RULES] + queries + names


@pytest.mark.parametrize("expression", expressions())
def test_an_expression_names_only_what_the_router_exports(expression: str) -> None:
    known = {**exported(), **OF_PROMETHEUS}
    used = dict(selectors(re.sub(r"\[[^\]]*\]|offset \w+", "", expression)))
    assert used, expression
    assert set(used) <= set(known), set(used) - set(known)
    for name, labels in used.items():
        assert labels <= known[name] | ADDED, (name, labels - known[name])
    assert groupings(expression) <= set().union(*(known[name] for name in used)) | ADDED, expression


def test_a_misspelt_metric_or_label_is_found() -> None:
    assert dict(selectors('sum by (a) (rate(redistill_request_total{rout="x"}[5m])) > 0 and up == 1')) == {
        "redistill_request_total": {"rout"},
        "up": set(),
    }
    assert "redistill_request_total" not in exported() and "redistill_requests_total" in exported()


def test_every_metric_of_the_router_is_on_the_dashboard() -> None:
    text = " ".join(expressions())
    names = {name for name in exported() if not name.endswith(("_created", "_sum", "_count"))}
    assert {name for name in names if name not in text} == set()


def test_an_alert_says_how_bad_it_is_and_what_to_do() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) >= 10
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket") and set(rule["annotations"]) == {"summary", "description"}, rule["alert"]


def test_each_alert_is_tested() -> None:
    tests = (INFRA.parent / "tests/infra/alerts_test.yaml").read_text(encoding="utf-8")
    assert {rule["alert"] for rule in RULES if rule["alert"] not in tests} == set()


def test_borders_of_the_histogram_in_rules_are_borders_of_the_router() -> None:
    decision = Decision("student", False, route="student", reason="mode", status=200, ended="done")
    metrics = Metrics()
    metrics.count(decision)
    borders = {float(number) for number in re.findall(r'le="([\d.]+)"', metrics.text().decode())}
    [slow] = [rule for rule in RULES if rule["alert"] == "RedistillSlow"]
    assert float(slow["expr"].rpartition(">")[2]) in borders


def test_panels_have_names_units_and_places_of_their_own() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len({panel["title"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(x, y) for x in range(place["x"], place["x"] + place["w"]) for y in range(place["y"], place["y"] + place["h"])}
        assert not cells & taken and place["x"] + place["w"] <= 24, panel["title"]
        taken |= cells
        assert panel["description"] and panel["fieldConfig"]["defaults"]["unit"] and panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.skipif(tool("promtool") is None, reason="no promtool here; Debian's package prometheus has it")
@pytest.mark.parametrize("arguments", [("check", "config", "infra/prometheus.yaml"), ("test", "rules", "tests/infra/alerts_test.yaml")])
def test_promtool_agrees(arguments: tuple[str, ...]) -> None:
    done = promtool(*arguments)
    assert done is not None and done.returncode == 0, done.stdout + done.stderr

"""Every query of the Grafana dashboards asks for measurements, fields and tags that labd and its agents make."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from labd.model.measurements import CATALOGUE, Kind
from tests.tools import flux_takes

GRAFANA = Path(__file__).parents[3] / "deploy" / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
# What Grafana puts before and into a query.
GRAFANAS = 'option v = {defaultBucket: "labd", timeRangeStart: -1h, timeRangeStop: now(), windowPeriod: 10s}\n'
COLUMNS = {"_measurement", "_field", "_time", "_value"}


def load(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def panels(path: Path) -> list[tuple[dict[str, Any], str]]:
    """Each panel with each of its queries."""
    return [(panel, target["query"]) for panel in load(path)["panels"] for target in panel["targets"]]


def script(query: str) -> str:
    """What InfluxDB gets to see of it."""
    imports = "".join(re.findall(r"^import .*\n", query, flags=re.MULTILINE))
    return imports + GRAFANAS + re.sub(r"\$\{\w+:regex\}", "(one|two)", query.removeprefix(imports))


def names_in(query: str) -> tuple[str, set[str], set[str]]:
    """The measurement, the fields, and the tags that are compared or grouped by."""
    [measurement] = re.findall(r'r\._measurement == "(\w+)"', query)
    fields = set(re.findall(r'r\._field == "(\w+)"', query))
    tags = set(re.findall(r"r\.([a-z]\w*) ", query))
    for columns in re.findall(r"columns: \[([^\]]*)\]", query):
        tags |= set(re.findall(r'"(\w+)"', columns)) - COLUMNS
    return measurement, fields, tags


def test_there_is_one_for_lab_bench_runs_and_agents() -> None:
    assert [path.stem for path in DASHBOARDS] == ["agents", "bench", "lab", "runs"]
    assert len({load(path)["uid"] for path in DASHBOARDS}) == 4


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_queries_ask_for_what_is_measured(path: Path) -> None:
    assert panels(path)
    for panel, query in panels(path):
        measurement, fields, tags = names_in(query)
        known = CATALOGUE[measurement]
        assert fields, panel["title"]
        assert fields <= {field.name for field in known.fields}, panel["title"]
        assert tags <= {tag.name for tag in known.tags}, panel["title"]
        for tag, value in re.findall(r'r\.([a-z]\w*) [!=]= "(\w+)"', query):
            assert value in next(one.values for one in known.tags if one.name == tag), panel["title"]


def test_influxdb_takes_every_query() -> None:
    asked = {f"{path.stem}: {panel['title']}": query for path in DASHBOARDS for panel, query in panels(path)}
    for path in DASHBOARDS:
        asked |= {f"{path.stem}: ${one['name']}": one["query"] for one in load(path)["templating"]["list"]}
    taken = flux_takes([script(query) for query in asked.values()])
    assert [name for name, fine in zip(asked, taken, strict=True) if not fine] == []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("range(start:", "rnge(start:"), ("fn: mean", "fn: men"), ("columns: [", "column: ["), ('"agent"]', "1]")],
)
def test_influxdb_refuses_what_is_wrong(right: str, wrong: str) -> None:
    [query] = {query for panel, query in panels(GRAFANA / "dashboards/agents.json") if panel["title"] == "Processor"}
    assert right in query
    assert flux_takes([script(query), script(query.replace(right, wrong))]) == [True, False]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_what_is_counted_is_in_every_point(path: Path) -> None:
    for panel, query in panels(path):
        if "fn: count" in query:
            measurement, [field], _ = names_in(query)
            assert not next(one for one in CATALOGUE[measurement].fields if one.name == field).optional, panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_series_are_called_by_what_they_are_grouped_by(path: Path) -> None:
    for panel, query in panels(path):
        shown = set(re.findall(r"\$\{__field\.labels\.(\w+)\}", json.dumps(panel["fieldConfig"])))
        assert shown <= names_in(query)[2], panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_words_are_not_reckoned_with(path: Path) -> None:
    for panel, query in panels(path):
        measurement, fields, _ = names_in(query)
        kinds = {field.kind for field in CATALOGUE[measurement].fields if field.name in fields}
        assert len(kinds) == 1, panel["title"]
        if kinds & {Kind.TEXT, Kind.BOOLEAN}:
            assert "fn: last" in query, panel["title"]


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_variables_are_tags_and_are_defined(path: Path) -> None:
    tags = {tag.name for measurement in CATALOGUE.values() for tag in measurement.tags}
    defined = {one["name"]: one["query"] for one in load(path)["templating"]["list"]}
    for name, query in defined.items():
        assert re.findall(r'tag: "(\w+)"', query) == [name]
        assert name in tags
    used = {name for _, query in panels(path) for name in re.findall(r"\$\{(\w+):regex\}", query)}
    assert used == defined.keys()


def test_they_use_the_source_that_is_provisioned() -> None:
    [source] = yaml.safe_load((GRAFANA / "provisioning/datasources/labd.yaml").read_text())["datasources"]
    for path in DASHBOARDS:
        for panel in load(path)["panels"]:
            assert {"type": source["type"], "uid": source["uid"]} == panel["datasource"]
    [provider] = yaml.safe_load((GRAFANA / "provisioning/dashboards/labd.yaml").read_text())["providers"]
    compose = yaml.safe_load((GRAFANA.parent / "compose.yaml").read_text())["services"]["grafana"]
    assert f"./grafana/dashboards:{provider['options']['path']}:ro" in compose["volumes"]
    needed = set(re.findall(r"\$([A-Z]\w+)", (GRAFANA / "provisioning/datasources/labd.yaml").read_text()))
    assert needed <= compose["environment"].keys()

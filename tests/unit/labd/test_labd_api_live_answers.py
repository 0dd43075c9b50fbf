"""What labd really answers has the shape of the examples that the OpenAPI document shows."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from fastapi.testclient import TestClient

from labd.api.app import create_app, openapi_document
from labd.api.routing import PREFIX
from labd.model.point import Point
from labd.services.authority import Authority
from labd.services.lab import Lab
from labd.telemetry.writer import Writer
from tests.unit.labd.fakes import RESULT, FakeClock, FakeExecutor, attach, open_lab, report, settle

DOCUMENT = openapi_document()
GETS = {
    path: content
    for path, methods in DOCUMENT["paths"].items()
    if "get" in methods
    for content in [methods["get"]["responses"]["200"].get("content", {}).get("application/json")]
    if content is not None
}


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, str], FakeExecutor]]:
    """A lab with one of everything, and what paths may name."""
    directory: Path = tmp_path_factory.mktemp("lab")
    clock, executor = FakeClock(), FakeExecutor()
    writer = Writer(directory / "points", clock=clock.now)
    writer.start()
    writer.write([Point("labd_points_dropped", {"replica": "labd", "cause": "invalid"}, {"points": 1}, clock.now())])
    lab: Lab = open_lab(directory, clock, executor, authority=Authority(directory / "ca", clock.now), writer=writer)
    attach(lab, report("bench-1", {"platform": "meb"}), agent="bench-host-1")
    with TestClient(create_app(lab), base_url=f"http://labd.test{PREFIX}/") as web:
        run = web.post("runs", json={"holder": "ci", "script": "return", "timeout_s": 600}).json()
        settle(lab)
        web.headers["Authorization"] = f"Bearer {executor.jobs[-1].token}"
        lease = web.post("leases", json={"holder": "ada"}).json()
        web.post("teams", json={"name": "powertrain"})
        web.put("teams/powertrain/members/ada", json={"role": "engineer"})
        web.post("users", json={"name": "ada"})
        web.post("tokens", json={"name": "ci", "owner": "ada"})
        web.put("secrets/db", json={"value": "s3cret-value"})
        web.put("environments/staging", json={"variables": {"A": "b"}, "secrets": {"DB": "db"}})
        yield web, {"lease_id": lease["id"], "run_id": run["id"], "team": "powertrain"}, executor
    lab.core.store.close()
    writer.stop()


def _name(path: str) -> str:
    kinds = {"benches": "bench-1", "agents": "bench-host-1", "environments": "staging"}
    return next((name for kind, name in kinds.items() if f"/{kind}/" in path), "")


@pytest.mark.parametrize("path", sorted(path for path in GETS if not path.endswith(("/result", "/backup"))))
def test_a_live_answer_has_the_shape_of_the_example(
    path: str, names: tuple[TestClient, dict[str, str], FakeExecutor]
) -> None:
    web, named, _ = names
    asked = "?measurement=labd_points_dropped&field=points" if path.endswith("/series") else ""
    answer = web.get(f"http://labd.test{path.format(**named, name=_name(path), path='a')}{asked}")
    assert answer.status_code == 200, answer.text
    _agrees(GETS[path], answer.json())


def test_so_has_a_result(names: tuple[TestClient, dict[str, str], FakeExecutor]) -> None:
    web, named, _ = names
    web.put(f"runs/{named['run_id']}/result", json={"document": RESULT, "junit": "<testsuites/>"}).raise_for_status()
    answer = web.get(f"runs/{named['run_id']}/result").json()
    _agrees(GETS[f"{PREFIX}/runs/{{run_id}}/result"], answer)


def _agrees(content: dict[str, Any], live: Any) -> None:
    jsonschema_rs.validate({**content["schema"], "components": DOCUMENT["components"]}, live)
    for shown in (live, content["example"]):
        assert list(_amiss(content["schema"], shown, "answer")) == []


def _amiss(schema: dict[str, Any], value: Any, where: str) -> Iterator[str]:
    """Fields that the schema has and the value has not, and the other way round."""
    while "$ref" in schema:
        schema = DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    for choice in schema.get("anyOf", ()):
        if value is not None and choice != {"type": "null"}:
            yield from _amiss(choice, value, where)
    if isinstance(value, list) and "items" in schema:
        for item in value:
            yield from _amiss(schema["items"], item, f"{where}[]")
    if isinstance(value, dict) and "properties" in schema:
        for name in schema["properties"].keys() ^ value.keys():
            yield f"{where}.{name}"
        for name in schema["properties"].keys() & value.keys():
            yield from _amiss(schema["properties"][name], value[name], f"{where}.{name}")

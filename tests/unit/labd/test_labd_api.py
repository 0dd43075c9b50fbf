import json
import typing
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

import jsonschema_rs
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from structlog.testing import capture_logs

from labd.api import schemas
from labd.api.limits import Limits
from labd.api.times import to_seconds, to_text
from labd.cli.files import MAX_DATA_BYTES, MAX_FILES
from labd.client import types
from labd.services.lab import Lab
from labd.store import writers
from tests.unit.labd.fakes import RESULT, FakeExecutor, application, attach, report, settle

LEASE = {"holder": "ada"}
RUN = {"script": "return 1", "holder": "ci"}
LINE = {"time": "2026-11-21T09:30:00.125Z", "level": "info", "text": "hello"}


@pytest.fixture
def app(lab: Lab) -> FastAPI:
    attach(lab, report("bench-1", {"platform": "meb"}))
    return application(lab)


@pytest.fixture
def web(app: FastAPI) -> Iterator[TestClient]:
    with TestClient(app, base_url="http://labd.test/api/v1/", raise_server_exceptions=False) as client:
        yield client


def _running(web: TestClient, lab: Lab, executor: FakeExecutor) -> tuple[str, dict[str, str]]:
    run_id = web.post("runs", json=RUN).json()["id"]
    settle(lab)
    return run_id, {"Authorization": f"Bearer {executor.jobs[-1].token}"}


def _events(text: str) -> list[dict[str, str]]:
    blocks = [block for block in text.replace("\r\n", "\n").split("\n\n") if block.strip()]
    return [dict(line.split(": ", 1) for line in block.split("\n") if not line.startswith(":")) for block in blocks]


def test_answers_have_the_shapes_that_the_sdk_declares() -> None:
    names = (
        "Bench Equipment Console PowerChannel Adapter Lease Run LogLine Assignment Result CaseResult Failure Step Frame"
        " Agent Invitation Authority"
    )
    for name in names.split():
        declared = set(typing.get_type_hints(getattr(types, name)))
        assert set(getattr(schemas, name).model_fields) == declared, name


def test_benches_are_listed_filtered_and_shown(web: TestClient) -> None:
    (bench,) = web.get("benches").json()["items"]
    assert (bench["name"], bench["health"], bench["state"], bench["lease_id"]) == (
        "bench-1",
        "healthy",
        "available",
        None,
    )
    assert bench["buses"][0]["name"] == "powertrain"
    consoles = [{"name": "linux", "port": "/dev/ttyUSB0", "baudrate": 115200}]
    assert bench["equipment"] == {"consoles": consoles, "power": [], "adapters": []}
    assert to_seconds(bench["last_seen"]) == 1_800_000_000.0
    assert web.get("benches", params={"selector": "platform!=meb"}).json() == {"items": [], "next": None}
    assert web.get("benches/bench-1").json() == bench


def test_a_lease_from_its_creation_to_its_release(web: TestClient) -> None:
    created = web.post("leases", json={**LEASE, "selector": "name=bench-1", "ttl_s": 10})
    assert created.status_code == 201
    lease = created.json()
    assert (lease["state"], lease["bench"], lease["epoch"], lease["ttl_s"]) == ("GRANTED", "bench-1", 1, 10.0)
    assert web.get(f"leases/{lease['id']}").json()["token"] == lease["token"]
    waiting = web.post("leases", json=LEASE).json()
    assert (waiting["state"], waiting["position"], waiting["token"]) == ("QUEUED", 1, None)
    assert [one["id"] for one in web.get("leases", params={"state": "QUEUED"}).json()["items"]] == [waiting["id"]]
    assert "token" not in web.get("leases").json()["items"][0]
    assert web.get("benches/bench-1").json()["holder"] == "ada"
    assert web.post(f"leases/{lease['id']}/heartbeat").json()["token"] == lease["token"]
    ended = web.delete(f"leases/{lease['id']}").json()
    assert (ended["state"], ended["end_reason"], ended["token"]) == ("ENDING", "released", None)
    assert web.delete(f"leases/{lease['id']}").json() == ended
    refused = web.post(f"leases/{lease['id']}/heartbeat")
    assert (refused.status_code, refused.json()["detail"]) == (409, f"lease {lease['id']} has ended: released")


def test_a_run_from_its_creation_to_its_result(web: TestClient, lab: Lab, executor: FakeExecutor) -> None:
    run_id, bearer = _running(web, lab, executor)
    assignment = web.get(f"runs/{run_id}/assignment", headers=bearer).json()
    assert assignment["script"] == "return 1"
    assert assignment["limits"]["timeout_s"] == 300.0
    batch = {"first_seq": 1, "lines": [LINE, {**LINE, "level": "error", "text": "zwei\nZeilen"}]}
    assert web.post(f"runs/{run_id}/log", json=batch, headers=bearer).json() == {"acknowledged": 2}
    gap = web.post(f"runs/{run_id}/log", json={**batch, "first_seq": 9}, headers=bearer)
    assert (gap.status_code, gap.json()["detail"]) == (
        409,
        f"the log of run {run_id} ends at 2: the next line must be 3, not 9",
    )
    assert web.get(f"runs/{run_id}/result").status_code == 404
    done = web.put(f"runs/{run_id}/result", json={"document": RESULT, "junit": "<testsuites/>"}, headers=bearer)
    assert (done.json()["state"], done.json()["cases"]) == ("PASSED", {"passed": 1, "failed": 0, "error": 0})
    assert web.get(f"runs/{run_id}/result").json() == RESULT
    junit = web.get(f"runs/{run_id}/junit")
    assert (junit.text, junit.headers["content-type"]) == ("<testsuites/>", "application/xml")
    assert [run["id"] for run in web.get("runs", params={"state": "PASSED", "limit": 5}).json()["items"]] == [run_id]
    assert web.post(f"runs/{run_id}/cancel").json()["state"] == "PASSED"


def test_the_log_is_a_stream_that_resumes_and_ends_with_the_run(
    web: TestClient, lab: Lab, executor: FakeExecutor
) -> None:
    run_id, bearer = _running(web, lab, executor)
    web.post(f"runs/{run_id}/log", json={"first_seq": 1, "lines": [LINE, LINE, LINE]}, headers=bearer)
    present = web.get(f"runs/{run_id}/log", params={"follow": "false"})
    assert present.headers["content-type"].startswith("text/event-stream")
    *lines, end = _events(present.text)
    assert [(line["event"], line["id"], json.loads(line["data"])["seq"]) for line in lines] == [
        ("line", str(n), n) for n in (1, 2, 3)
    ]
    assert json.loads(lines[0]["data"])["time"] == "2026-11-21T09:30:00.125000Z"
    assert (end["event"], json.loads(end["data"])["state"]) == ("end", "RUNNING")
    web.post(f"runs/{run_id}/cancel")
    resumed = _events(web.get(f"runs/{run_id}/log", params={"after": 1}, headers={"Last-Event-ID": "2"}).text)
    assert [event.get("id") for event in resumed] == ["3", None]
    assert json.loads(resumed[-1]["data"])["state"] == "CANCELLED"
    assert [event["event"] for event in _events(web.get(f"runs/{run_id}/log", params={"after": 99}).text)] == ["end"]


def test_runner_routes_are_for_the_runs_own_runner(web: TestClient, lab: Lab, executor: FakeExecutor) -> None:
    run_id, bearer = _running(web, lab, executor)
    for method, path, body in (
        ("GET", "assignment", None),
        ("GET", "data-files/trip.blf", None),
        ("POST", "log", {"first_seq": 1, "lines": [LINE]}),
        ("PUT", "result", {"document": RESULT, "junit": ""}),
    ):
        anonymous = web.request(method, f"runs/{run_id}/{path}", json=body)
        assert (anonymous.status_code, anonymous.headers["www-authenticate"]) == (401, "Bearer")
        forged = {"Authorization": bearer["Authorization"][:-1] + "x"}
        assert web.request(method, f"runs/{run_id}/{path}", json=body, headers=forged).status_code == 403


BAD: list[tuple[str, str, Any, int, dict[str, Any]]] = [
    ("POST", "leases", {**LEASE, "selector": "platform=meb,"}, 422, {"field": "selector", "column": 14}),
    ("POST", "leases", {**LEASE, "selector": "platform=mqb"}, 422, {"field": "selector", "value": "platform=mqb"}),
    (
        "POST",
        "runs",
        {},
        422,
        {"field": "script", "value": None, "message": "give the script itself, or git: exactly one of them"},
    ),
    ("POST", "leases", {"holder": "a\nb"}, 422, {"field": "holder", "value": "a\nb"}),
    ("POST", "leases", {**LEASE, "ttl_s": 0.5}, 422, {"field": "ttl_s", "value": 0.5}),
    ("POST", "leases", {**LEASE, "duration_s": "1h"}, 422, {"field": "duration_s", "value": "1h"}),
    ("POST", "leases", {**LEASE, "duration_s": 1e9}, 422, {"field": "duration_s", "value": 1e9}),
    ("POST", "leases", {**LEASE, "priority": True}, 422, {"field": "priority", "value": True}),
    ("POST", "leases", {**LEASE, "colour": "red"}, 422, {"field": "colour", "value": "red"}),
    ("POST", "leases", {**LEASE, "team": "/"}, 422, {"field": "team", "value": "/"}),
    ("POST", "runs", {**RUN, "team": "*"}, 422, {"field": "team", "value": "*"}),
    ("POST", "leases", ["holder"], 422, {"field": "body"}),
    ("POST", "runs", {"holder": "ci", "script": ""}, 422, {"field": "script", "value": ""}),
    ("POST", "runs", {**RUN, "files": {"../x.lua": ""}}, 422, {}),
    ("POST", "runs", {**RUN, "data_files": {"/etc/x.blf": ""}}, 422, {}),
    ("POST", "runs", {**RUN, "data_files": {"x.blf": "no base 64"}}, 422, {"field": "data_files.x.blf"}),
    ("POST", "runs", {**RUN, "data_files": {"x.blf": 1}}, 422, {"field": "data_files.x.blf", "value": 1}),
    ("POST", "runs", {**RUN, "timeout_s": 0}, 422, {"field": "timeout_s", "value": 0}),
    ("POST", "runs", {**RUN, "selector": "a in b"}, 422, {"field": "selector", "column": 6}),
    ("GET", "benches?selector=a%20is%20b", None, 422, {"field": "selector", "column": 3}),
    ("GET", "leases?state=SLEEPING", None, 422, {"field": "state.0", "value": "SLEEPING"}),
    ("GET", "leases?since=noon", None, 422, {"field": "since", "value": "noon"}),
    ("GET", "leases?cursor=x", None, 422, {"field": "cursor", "value": "x"}),
    ("GET", "runs?selector=a%20is%20b", None, 422, {"field": "selector", "column": 3}),
    ("GET", "runs?limit=0", None, 422, {"field": "limit", "value": "0"}),
    ("GET", "benches/bench-9", None, 404, {}),
    ("GET", "leases/l-0", None, 404, {}),
    ("DELETE", "leases/l-0", None, 404, {}),
    ("GET", "runs/r-0", None, 404, {}),
    ("GET", "runs/r-0/log", None, 404, {}),
    ("GET", "runs/r-0/junit", None, 404, {}),
    ("GET", "nothing/here", None, 404, {}),
    ("PUT", "benches", None, 405, {}),
]


@pytest.mark.parametrize(("method", "path", "body", "status", "error"), BAD)
def test_bad_input_gets_a_problem_document_that_names_field_and_value(
    web: TestClient, method: str, path: str, body: Any, status: int, error: dict[str, Any]
) -> None:
    answer = web.request(method, path, json=body)
    document = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (document["status"], document["type"]) == (status, "about:blank")
    assert document["title"] and document["detail"]
    if status == 422:
        (found,) = document["errors"]
        assert found["message"]
        assert {key: found.get(key) for key in error} == error
    assert web.get("leases").json()["items"] == web.get("runs").json()["items"] == []


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b'{"holder', "body: no JSON: Unterminated string"),
        (b'{"holder": "\\ud800"}', "holder"),
        (b"\xf0\x28", "no JSON text in UTF-8"),
    ],
)
def test_a_body_that_is_no_sound_json_is_a_problem(web: TestClient, content: bytes, words: str) -> None:
    answer = web.post("leases", content=content, headers={"Content-Type": "application/json"})
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.status_code == (422 if words == "holder" else 400)
    assert words in answer.json()["detail"]


@pytest.mark.parametrize(
    ("path", "body", "field", "hint"),
    [
        ("leases", {"hodler": "ada", "ttl_s": "x"}, "hodler", "there is no such field; did you mean 'holder'?"),
        ("leases", {"benches": [{"selectr": ""}]}, "benches.0.selectr", "; did you mean 'selector'? there are 'count'"),
        ("runs", {**RUN, "enviroment": "staging"}, "enviroment", "did you mean 'environment'?"),
    ],
)
def test_an_unknown_field_is_told_with_the_nearest_there_is(
    web: TestClient, path: str, body: dict[str, Any], field: str, hint: str
) -> None:
    errors = {one["field"]: one["message"] for one in web.post(path, json=body).json()["errors"]}
    assert hint in errors[field]
    assert ("ttl_s" in errors) == ("ttl_s" in body), "with every other mistake"


def test_a_run_takes_as_many_files_as_labctl_sends(web: TestClient) -> None:
    files = {f"{number}.lua": "" for number in range(MAX_FILES)}
    assert web.post("runs", json={**RUN, "files": files}).status_code == 201
    refused = web.post("runs", json={**RUN, "files": {**files, "more.lua": ""}})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "files")


def _encoded(content: bytes) -> str:
    return b64encode(content).decode()


def test_data_files_reach_the_runner_as_they_are(web: TestClient, lab: Lab, executor: FakeExecutor) -> None:
    image = bytes(range(256)) * 100
    wish = {**RUN, "data_files": {"logs/trip 1.blf": _encoded(b""), "app.hex": _encoded(image)}}
    run_id = web.post("runs", json=wish).json()["id"]
    settle(lab)
    bearer = {"Authorization": f"Bearer {executor.jobs[-1].token}"}
    assignment = web.get(f"runs/{run_id}/assignment", headers=bearer).json()
    assert assignment["data_files"] == {"app.hex": len(image), "logs/trip 1.blf": 0}
    assert web.get(f"runs/{run_id}/data-files/app.hex", headers=bearer).content == image
    assert web.get(f"runs/{run_id}/data-files/logs/trip%201.blf", headers=bearer).content == b""
    other = web.get(f"runs/{run_id}/data-files/other.hex", headers=bearer)
    assert (other.status_code, other.json()["detail"]) == (404, f"no data file 'other.hex' came with run {run_id}")


def test_a_run_takes_as_much_data_as_labctl_sends(web: TestClient) -> None:
    content = bytes(MAX_DATA_BYTES)
    assert web.post("runs", json={**RUN, "data_files": {"app.bin": _encoded(content)}}).status_code == 201
    refused = web.post("runs", json={**RUN, "data_files": {"app.bin": _encoded(content), "one.bin": _encoded(b"1")}})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "data_files")
    assert f"have {MAX_DATA_BYTES + 1} bytes" in refused.json()["detail"]


def test_numbers_that_json_has_not_are_refused_and_shown(web: TestClient) -> None:
    answer = web.post(
        "leases", content=b'{"holder": "x", "duration_s": NaN}', headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["errors"][0]["value"]) == (422, "nan")


def test_a_script_that_is_too_long_is_refused_with_its_size(web: TestClient) -> None:
    long = "-" * (2**20 + 1)
    for field, body in (("script", {"script": long}), ("files.a.lua", {**RUN, "files": {"a.lua": long}})):
        answer = web.post("runs", json=body)
        assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, field)
        assert (
            "it has 1048577 characters; a script, or one of its files, has at most 1048576" in answer.json()["detail"]
        )


def test_a_body_beyond_the_bound_is_refused(web: TestClient) -> None:
    def streamed() -> Iterator[bytes]:
        for _ in range(Limits().request_bytes // 2**20 + 1):
            yield b" " * 2**20

    for content in (b" " * (Limits().request_bytes + 1), streamed()):
        answer = web.post("runs", content=content, headers={"Content-Type": "application/json"})
        assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
        assert str(Limits().request_bytes) in answer.json()["detail"]


def test_all_mistakes_of_a_request_are_told_at_once(web: TestClient) -> None:
    errors = web.post("runs", json={"script": 7, "priority": 5000, "timeout_s": -1}).json()["errors"]
    assert [error["field"] for error in errors] == ["script", "priority", "timeout_s"]


def test_a_busy_database_is_a_503_to_be_retried(web: TestClient, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "WRITE_WAIT_S", 0.05)
    with lab.core.store.write():
        answer = web.post("leases", json=LEASE)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "busy" in answer.json()["detail"]


def test_a_mistake_of_labd_is_a_problem_too(web: TestClient, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.fleet, "benches", lambda selector: 1 / 0)
    with capture_logs() as logs:
        answer = web.get("benches")
    assert [entry["log_level"] for entry in logs] == ["error"]
    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")


def test_the_public_keys_are_at_their_well_known_place(web: TestClient) -> None:
    (key,) = web.get("http://labd.test/.well-known/jwks.json").json()["keys"]
    assert (key["kty"], key["crv"], "d" in key) == ("OKP", "Ed25519", False)
    assert web.get("healthz").json() == {"status": "ok"}
    assert "version" in web.get("version").json()


def test_the_openapi_document_hides_no_route_and_its_examples_are_valid(web: TestClient, app: FastAPI) -> None:
    document = web.get("openapi.json").json()
    hidden = {getattr(route, "path", "") for route in app.routes if not getattr(route, "include_in_schema", True)}
    assert hidden <= {"/api/v1/openapi.json", "/api/v1/docs", "/docs/oauth2-redirect"}
    for name, schema in document["components"]["schemas"].items():
        assert jsonschema_rs.meta.is_valid(schema), name
        if "example" in schema:
            whole = {**schema, "components": document["components"]}
            jsonschema_rs.validate(whole, schema["example"])
    for operations in document["paths"].values():
        for operation in operations.values():
            assert operation["summary"] and operation["description"] and operation["tags"]
            for status, answer in operation["responses"].items():
                if status >= "400":
                    assert list(answer["content"]) == ["application/problem+json"]


@pytest.mark.parametrize("seconds", [0.0, 1_800_000_000.125, 1_763_717_400.000001])
def test_times_on_the_wire_are_exact_to_the_microsecond(seconds: float) -> None:
    assert to_seconds(to_text(seconds)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize("text", ["", "yesterday", "2026-11-21T09:30:00", "0001-01-01T00:00:00+23:59"])
def test_times_without_offset_or_meaning_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="time"):
        to_seconds(text)

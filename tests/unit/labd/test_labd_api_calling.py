from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient

from labd.api.app import create_app
from labd.api.dispatch import Dispatch
from labd.api.routing import Router
from labd.services.lab import Lab
from tests.unit.labd.fakes import attach, report


@pytest.fixture
def app(lab: Lab) -> FastAPI:
    attach(lab, report("bench-1"))
    return create_app(lab)


def test_all_but_streams_is_answered_without_detours(app: FastAPI) -> None:
    stack: Any = app.build_middleware_stack()
    while not isinstance(stack, Dispatch):
        stack = getattr(stack, "app", None) or stack._app
    operations = {
        f"{method.upper()} {path}": "text/event-stream" in operation["responses"].get("200", {}).get("content", {})
        for path, methods in app.openapi()["paths"].items()
        for method, operation in methods.items()
    }
    assert len(operations) > 50
    assert set(stack._routes) == {name for name, streams in operations.items() if not streams}


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/json", b'{"ttl_s": 30}', 201),
        ("application/json; charset=utf-8", b'{"ttl_s": 30}', 201),
        ("application/vnd.lab+json", b'{"ttl_s": 30}', 201),
        ("text/plain", b'{"ttl_s": 30}', 422),
        ("", b'{"ttl_s": 30}', 422),
        ("application/json", b"", 422),
        ("application/json", b'{"ttl_s": 30', 400),
        ("application/json", b'{"holder": "\xff"}', 400),
        ("application/json", b"[" * 100_000, 400),
    ],
)
def test_a_body_is_taken_for_what_its_sender_calls_it(app: FastAPI, kind: str, body: bytes, status: int) -> None:
    with TestClient(app, base_url="http://labd.test/api/v1/") as web:
        answer = web.post("leases", content=body, headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == status, answer.text
    if status != 201:
        assert answer.headers["content-type"] == "application/problem+json"
        assert ("send it with Content-Type: application/json" in answer.json()["detail"]) == ("json" not in kind)


def test_a_route_depends_on_plain_functions_only() -> None:
    async def slow() -> int:
        return 1

    def answer(value: Annotated[int, Depends(slow)]) -> int:
        return value

    with pytest.raises(TypeError, match="plain function"):
        Router().get("/thing")(answer)

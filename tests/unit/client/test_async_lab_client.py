import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from labd.api.app import openapi_document
from labd.client import AsyncLabClient, LabClient, LabError, LabUnreachable, ProblemError, mirror
from tests.unit.client.fake_labd import FakeLabd

NOT_FOR_CLIENTS = {
    ("GET", "/.well-known/jwks.json"),  # for other services
    ("POST", "/api/v1/agents/enrol"),  # agents' own
    ("POST", "/api/v1/environments"),  # the same as PUT by name
    ("GET", "/api/v1/healthz"),  # for probes
    ("GET", "/api/v1/version"),
}
BY_HAND = {"follow_lease", "follow_run", "follow_leases", "follow_log", "log", "backup", "agent_tls"}


def _with(labd: FakeLabd, use: Callable[[AsyncLabClient], Coroutine[Any, Any, Any]], timeout_s: float = 5) -> Any:
    async def used() -> Any:
        async with AsyncLabClient(labd.url, timeout_s=timeout_s) as lab:
            return await use(lab)

    return asyncio.run(used())


def _public(kind: type) -> dict[str, Any]:
    return {
        name: inspect.getattr_static(kind, name)
        for name in dir(kind)
        if not name.startswith("_") and inspect.isfunction(inspect.getattr_static(kind, name))
    }


def test_the_methods_are_those_of_the_other_client_as_they_are_now() -> None:
    assert mirror.TARGET.read_text("utf-8") == mirror.written(), "make client"


def test_both_clients_have_the_same_methods_with_the_same_parameters() -> None:
    one, other = _public(LabClient), _public(AsyncLabClient)
    assert set(one) - {"close", "backup"} == set(other) - {"aclose"}
    for name in set(one) & set(other):
        assert inspect.signature(one[name]).parameters == inspect.signature(other[name]).parameters, name


class _Recorder:
    """Stands for the transport: notes what is asked, and answers with something that every method can read."""

    url = "http://labd.test"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    def request(self, method: str, path: str, **_: Any) -> bytes:
        self.asked.append((method, f"/{path.partition('?')[0]}"))
        return b"{}"

    def json(self, _: bytes) -> Any:
        return {"items": [], "next": None, "acknowledged": 0, "token": ""}

    def stream(self, path: str, **_: Any) -> Any:
        self.asked.append(("GET", f"/{path}"))
        raise LabError("no streams here")

    def download(self, path: str, *_: Any, **__: Any) -> None:
        self.asked.append(("GET", f"/{path}"))


def test_every_route_has_a_method_and_every_method_a_route() -> None:
    client, recorder = LabClient(), _Recorder()
    client._http = recorder  # type: ignore[assignment]
    for name, method in _public(LabClient).items():
        if name in ("close", "agent_tls"):
            continue
        taken = list(inspect.signature(method).parameters.values())[1:]
        required = [one for one in taken if one.default is one.empty and one.kind is not one.VAR_POSITIONAL]
        values = {one.name: _sample(one) for one in required}
        try:
            result = method(client, **values)
            if inspect.isgenerator(result) or hasattr(result, "__next__"):
                list(result)
        except LabError:
            continue
    client._call("POST", "leases/X/certificate")
    documented = {
        (verb.upper(), path) for path, operations in openapi_document()["paths"].items() for verb in operations
    }
    asked = {(verb, _template(verb, path, documented)) for verb, path in recorder.asked}
    assert asked <= documented
    assert documented - asked <= NOT_FOR_CLIENTS


def _sample(parameter: inspect.Parameter) -> Any:
    if parameter.name in ("lines",):
        return []
    if parameter.name in ("document", "variables"):
        return {}
    if parameter.name in ("first_seq", "by_s"):
        return 1
    return "X"


def _template(verb: str, path: str, documented: set[tuple[str, str]]) -> str:
    """The route that a path is of: each X stands for a parameter."""
    for other, template in documented:
        parts, found = template.split("/"), path.split("/")
        same = other == verb and len(parts) == len(found)
        if same and all(a == b or (a.startswith("{") and b == "X") for a, b in zip(parts, found, strict=True)):
            return template
    return path


def test_a_lease_and_a_run_on_the_event_loop(labd: FakeLabd) -> None:
    async def use(lab: AsyncLabClient) -> None:
        assert [bench["name"] for bench in await lab.benches()] == ["bench-1"]
        lease = await lab.create_lease(selector="platform=meb", holder="ada")
        assert (await lab.heartbeat(lease["id"]))["token"] == "lease-token"
        assert [one["id"] for one in await lab.leases("GRANTED", "ACTIVE")] == [lease["id"]]
        assert (await lab.release(lease["id"]))["end_reason"] == "released"
        run = await lab.create_run(script="-- Lua", holder="ada")
        assert [line["text"] async for line in lab.follow_log(run["id"])] == ["one", "two"]
        assert await lab.junit(run["id"]) == "<testsuites/>"

    _with(labd, use)


def test_a_list_comes_from_as_many_pages_as_it_takes(labd: FakeLabd) -> None:
    for _ in range(7):
        labd.add_lease()
    assert len(_with(labd, lambda lab: lab.leases())) == 7


def test_a_call_survives_lost_connections_and_keeps_its_key(labd: FakeLabd) -> None:
    labd.cut_next = 2
    assert _with(labd, lambda lab: lab.create_lease(holder="ada"))["state"] == "GRANTED"
    assert len({headers["idempotency-key"] for headers in labd.headers}) == 1


def test_a_log_is_resumed_where_it_broke(labd: FakeLabd) -> None:
    run = labd.add_run()
    labd.start_run(run)
    labd.say(run, "a", "b", "c")
    labd.end_run(run)
    labd.cut_log_after = [1]

    async def read(lab: AsyncLabClient) -> list[int]:
        return [line["seq"] async for line in lab.follow_log(run["id"])]

    seen = _with(labd, read)
    assert sorted(set(seen)) == [1, 2, 3]


def test_what_labd_refuses_is_said(labd: FakeLabd) -> None:
    with pytest.raises(ProblemError) as caught:
        _with(labd, lambda lab: lab.run("r-0"))
    assert caught.value.status == 404
    with pytest.raises(LabUnreachable):
        asyncio.run(AsyncLabClient("http://127.0.0.1:1", timeout_s=2).benches())
    with pytest.raises(LabError, match="no URL"):
        AsyncLabClient("lab.example.com")

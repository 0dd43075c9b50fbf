"""Clients and agents of another release than labd's: who may come, and what the others are told."""

import grpc
import pytest

from bench_agent.protocol import lab_pb2, lab_pb2_grpc, release
from labd.agents.server import AgentsServer
from labd.client import LabClient, ProblemError
from labd.client import transport as client_transport
from labd.services.lab import Lab
from tests.unit.labd.serving import serving

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("own", "other", "alike"),
    [
        ("0.1.0", "0.1.0", True),
        ("0.1.0", "0.1.7", True),
        ("0.1.0", "0.1.1.dev3+g12", True),
        ("0.1.0", "0.2.0", False),
        ("1.1.0", "0.1.0", False),
        ("0.1.0", "", True),
        ("0.1.0", "0+source", True),
        ("0+source", "3.0.0", True),
    ],
)
def test_the_first_two_numbers_have_to_be_the_same(own: str, other: str, alike: bool) -> None:
    assert release.is_alike(own, other) is release.is_alike(other, own) is alike


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(release, "VERSION", "0.1.0")


async def test_an_agent_of_another_release_is_refused_with_both_and_what_to_do(lab: Lab, ours: None) -> None:
    server = AgentsServer(lab)
    port = server.bind("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            call = lab_pb2_grpc.LabStub(channel).Attach(timeout=30)
            hello = lab_pb2.Hello(agent="agent-1", version="0.2.3", address="10.0.0.1:8472")
            await call.write(lab_pb2.AgentMessage(hello=hello))
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call.read()
                raise AssertionError("it was welcomed")
    finally:
        await server.stop()
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert refused.value.details() == (
        "version: agent 'agent-1' is of version 0.2.3, this labd of 0.1.0: the first two numbers have to be the same; "
        "install labd==0.1.* there, or bring labd to 0.2.3"
    )


def test_a_client_of_another_release_is_refused_with_both_and_what_to_do(
    lab: Lab, ours: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving(lab) as (host, port), LabClient(f"http://{host}:{port}") as client:
        assert client.benches() == []
        monkeypatch.setattr(client_transport, "USER_AGENT", "labd-client/0.2.3")
        with pytest.raises(ProblemError, match=r"of version 0\.2\.3, this labd of 0\.1\.0.*labd==0\.1\.\* there") as no:
            client.benches()
        (wrong,) = no.value.errors
        assert (wrong["field"], wrong["value"]) == ("User-Agent", "labd-client/0.2.3")
        # Which version labd is, anybody may ask; and programs that are not of labd are their own business.
        client._http.request("GET", "api/v1/version")
        monkeypatch.setattr(client_transport, "USER_AGENT", "curl/8.5")
        assert client.benches() == []

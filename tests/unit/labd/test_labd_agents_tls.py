"""The agents' door over real TLS: who gets in, and how they are put out."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from bench_agent.protocol import bench_pb2, lab_pb2, lab_pb2_grpc
from bench_agent.protocol.certificates import certificates_of, new_request, uris
from bench_agent.protocol.identity import CONTROLLER_NAME, AgentIdentity, Credentials
from bench_agent.protocol.transport import channel_credentials, expecting
from labd.agents.server import AgentsServer
from labd.model.identity import ANONYMOUS
from labd.services.authority import Authority
from labd.services.lab import Lab
from tests.running_time import running_time
from tests.unit.labd.fakes import FakeClock, open_lab

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
Call = grpc.aio.StreamStreamCall[lab_pb2.AgentMessage, lab_pb2.LabMessage]


class _Door:
    def __init__(self, lab: Lab, port: int) -> None:
        self.lab = lab
        self._port = port
        assert lab.authority is not None
        self.authority = lab.authority

    def enrolled(self, name: str = "agent-1") -> Credentials:
        mine = new_request(name)
        issued = self.lab.enrolment.enrol(self.lab.enrolment.invite(ANONYMOUS, name).token, mine.request)
        return Credentials(mine.key, issued.chain, self.authority.trust)

    @asynccontextmanager
    async def attached(self, own: Credentials | None, agent: str = "agent-1") -> AsyncIterator[Call]:
        credentials = grpc.ssl_channel_credentials(self.authority.trust) if own is None else channel_credentials(own)
        options = (*expecting(CONTROLLER_NAME), ("grpc.use_local_subchannel_pool", 1))
        async with grpc.aio.secure_channel(f"127.0.0.1:{self._port}", credentials, options=options) as channel:
            call: Call = lab_pb2_grpc.LabStub(channel).Attach(timeout=DEADLINE_S)
            bench = bench_pb2.BenchDescription(name="bench-1", health=bench_pb2.HEALTHY)
            report = lab_pb2.BenchReport(description=bench)
            hello = lab_pb2.Hello(agent=agent, address="10.0.0.1:1", benches=[report])
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):  # the status tells
                await call.write(lab_pb2.AgentMessage(hello=hello))
            yield call


@pytest.fixture
async def door(tmp_path: Path, clock: FakeClock) -> AsyncIterator[_Door]:
    clock.time = time.time()  # TLS goes by the machine's clock
    lab = open_lab(tmp_path, clock, authority=Authority(tmp_path / "ca", clock.now))
    server = AgentsServer(lab)
    port = server.bind("127.0.0.1:0")
    await server.start()
    yield _Door(lab, port)
    await server.stop()
    lab.core.store.close()


async def _refusal(call: Call) -> tuple[grpc.StatusCode, str, list[lab_pb2.LabMessage]]:
    said = []
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while isinstance(message := await call.read(), lab_pb2.LabMessage):
            said.append(message)
        raise AssertionError("the stream ended without a status")
    return caught.value.code(), caught.value.details() or "", said


async def test_an_enrolled_agent_is_welcome(door: _Door) -> None:
    async with door.attached(door.enrolled()) as call:
        first = await call.read()
        assert isinstance(first, lab_pb2.LabMessage)
        assert first.welcome.trust == door.authority.trust
        assert [bench.bench.name for bench in door.lab.fleet.benches("")] == ["bench-1"]


async def test_nobody_gets_in_without_a_certificate(door: _Door) -> None:
    async with door.attached(None) as call:
        assert (await _refusal(call))[0] is grpc.StatusCode.UNAVAILABLE


async def test_another_authoritys_certificate_is_refused(door: _Door, tmp_path: Path) -> None:
    other, mine = Authority(tmp_path / "other", time.time), new_request("agent-1")
    chain = other.agent_certificate(mine.request, AgentIdentity("agent-1", 1)).chain
    door.enrolled()
    async with door.attached(Credentials(mine.key, chain, door.authority.trust)) as call:
        assert (await _refusal(call))[0] is grpc.StatusCode.UNAVAILABLE


async def test_an_agent_cannot_speak_for_another(door: _Door) -> None:
    door.enrolled("agent-1")
    async with door.attached(door.enrolled("agent-2"), agent="agent-1") as call:
        code, details, _ = await _refusal(call)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "'agent-1'" in details
    assert "'agent-2'" in details


async def test_a_lease_holder_is_no_agent(door: _Door) -> None:
    mine = new_request("")
    chain = door.authority.lease_certificate(mine.request, "l-1", 60).chain
    async with door.attached(Credentials(mine.key, chain, door.authority.trust)) as call:
        code, details, _ = await _refusal(call)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "labd:lease/l-1" in details


async def test_revocation_cuts_the_stream_at_once(door: _Door) -> None:
    own = door.enrolled()
    async with door.attached(own) as call:
        await call.read()
        started = running_time()
        await asyncio.to_thread(door.lab.enrolment.revoke, ANONYMOUS, "agent-1", "stolen")
        code, details, said = await _refusal(call)
        assert running_time() - started < 1.0
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "stolen" in details
    assert "stolen" in said[-1].revoked.reason
    async with door.attached(own) as call:
        code, _, said = await _refusal(call)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert [message.WhichOneof("message") for message in said] == ["revoked"]


async def test_renewal_over_the_stream(door: _Door) -> None:
    async with door.attached(door.enrolled()) as call:
        await call.read()
        mine = new_request("agent-1")
        await call.write(lab_pb2.AgentMessage(renewal=lab_pb2.Renewal(request=mine.request)))
        answer = await _certificate(call)
        assert uris(certificates_of(answer.chain)[0]) == [AgentIdentity("agent-1", 1).uri]
        await call.write(lab_pb2.AgentMessage(renewal=lab_pb2.Renewal(request=b"nonsense")))
        assert "no certificate request" in (await _certificate(call)).refusal
    async with door.attached(Credentials(mine.key, answer.chain, answer.trust)) as call:
        assert isinstance(await call.read(), lab_pb2.LabMessage)


async def _certificate(call: Call) -> lab_pb2.Certificate:
    while True:
        message = await call.read()
        assert isinstance(message, lab_pb2.LabMessage)
        if message.HasField("certificate"):
            return message.certificate

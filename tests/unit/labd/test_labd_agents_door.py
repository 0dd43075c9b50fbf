"""The agents' door over real gRPC, in one event loop."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc  # type: ignore[import-untyped]

from bench_agent.protocol import bench_pb2, lab_pb2, lab_pb2_grpc
from labd.agents import intake, servicer
from labd.agents.door import ListedOnly
from labd.agents.server import AddressInUse, AgentsServer
from labd.api.answers import bench_answer
from labd.model.bench import BenchState, Health
from labd.model.identity import ANONYMOUS
from labd.model.retention import DAY_S, Retention, TeamRetention
from labd.services.attachment import PowerReading
from labd.services.fleet import BenchView
from labd.services.lab import Lab
from labd.services.ledger import FenceOrder
from labd.store.errors import DatabaseUnwritable

pytestmark = pytest.mark.anyio
DEADLINE_S = 60.0
Call = grpc.aio.StreamStreamCall[lab_pb2.AgentMessage, lab_pb2.LabMessage]


@asynccontextmanager
async def _served(lab: Lab) -> AsyncIterator[tuple[AgentsServer, grpc.aio.Channel]]:
    server = AgentsServer(lab)
    port = server.bind("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield server, channel
    finally:
        await server.stop()


def _report(
    name: str = "bench-1", fenced: int = 0, health: "bench_pb2.Health.ValueType" = bench_pb2.HEALTHY
) -> lab_pb2.BenchReport:
    description = bench_pb2.BenchDescription(
        name=name,
        labels={"platform": "meb"},
        health=health,
        buses=[
            bench_pb2.BusDescription(name="powertrain", interface="virtual", channel="a", messages=["EngineStatus"])
        ],
        ecus=[
            bench_pb2.EcuDescription(
                name="ECM",
                bus="powertrain",
                request_id=0x7E0,
                response_id=0x7E8,
                simulated=True,
                dids=[bench_pb2.DidDescription(name="VIN", did=0xF190, type="ascii")],
            )
        ],
        consoles=[bench_pb2.ConsoleDescription(name="linux", port="/dev/ttyUSB0", baudrate=115200)],
        power=[bench_pb2.PowerChannelDescription(name="battery", supply="main", driver="scpi", terminal="kl30")],
        adapters=[bench_pb2.AdapterDescription(name="door", driver="servo", methods=["close", "open"])],
    )
    return lab_pb2.BenchReport(description=description, fenced_epoch=fenced)


def _hello(*reports: lab_pb2.BenchReport, agent: str = "agent-1") -> lab_pb2.AgentMessage:
    return lab_pb2.AgentMessage(hello=lab_pb2.Hello(agent=agent, address="10.0.0.1:8472", benches=reports))


async def _attach(channel: grpc.aio.Channel, *reports: lab_pb2.BenchReport) -> tuple[Call, lab_pb2.Welcome]:
    call: Call = lab_pb2_grpc.LabStub(channel).Attach(timeout=DEADLINE_S)
    await call.write(_hello(*reports))
    first = await call.read()
    assert isinstance(first, lab_pb2.LabMessage)
    return call, first.welcome


async def _ended(call: Call) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        while await call.read() is not grpc.aio.EOF:
            pass
        raise AssertionError("the stream ended without a status")
    return caught.value.code(), str(caught.value.details())


async def _until(lab: Lab, name: str, wanted: Callable[[BenchView], bool]) -> None:
    """The agent's messages are not answered: what they did is seen at the bench."""
    async with asyncio.timeout(DEADLINE_S):
        while not wanted(lab.fleet.bench(name)):  # noqa: ASYNC110 - the fleet tells nobody of its changes
            await asyncio.sleep(0.005)


async def test_an_agent_is_welcomed_with_keys_and_its_benches_are_known(lab: Lab) -> None:
    async with _served(lab) as (_, channel):
        call, welcome = await _attach(channel, _report(), _report("bench-2", health=bench_pb2.UNHEALTHY))
        assert json.loads(welcome.jwks) == lab.core.signer.public_keys
        assert list(welcome.fences) == []
        view = lab.fleet.bench("bench-1")
        assert (view.state, view.bench.address) == (BenchState.AVAILABLE, "10.0.0.1:8472")
        assert view.bench.ecus[0]["dids"] == [{"name": "VIN", "did": 0xF190, "type": "ascii", "unit": ""}]
        assert view.bench.equipment == {
            "consoles": [{"name": "linux", "port": "/dev/ttyUSB0", "baudrate": 115200}],
            "power": [{"name": "battery", "supply": "main", "driver": "scpi", "terminal": "kl30"}],
            "adapters": [{"name": "door", "driver": "servo", "methods": ["close", "open"]}],
        }
        assert lab.fleet.bench("bench-2").health is Health.UNHEALTHY
        call.cancel()
        await _until(lab, "bench-1", lambda view: view.health is Health.OFFLINE)


async def test_the_end_of_a_lease_reaches_the_agent_and_its_confirmation_frees_the_bench(lab: Lab) -> None:
    async with _served(lab) as (_, channel):
        call, _ = await _attach(channel, _report())
        lease = await asyncio.to_thread(
            lambda: lab.leasing.create(ANONYMOUS, selector="", holder="ada", duration_s=60.0, ttl_s=30.0).lease
        )
        await asyncio.to_thread(lab.leasing.release, ANONYMOUS, lease.id)
        message = await call.read()
        assert isinstance(message, lab_pb2.LabMessage)
        assert message.fence == lab_pb2.Fence(bench="bench-1", epoch=1, reason="released")
        assert message.lab_time_ms == round(lab.core.clock.now() * 1000)
        assert lab.fleet.bench("bench-1").state is BenchState.RECOVERING
        await call.write(lab_pb2.AgentMessage(fenced=lab_pb2.Fenced(bench="bench-1", epoch=1)))
        await _until(lab, "bench-1", lambda view: view.state is BenchState.AVAILABLE)


async def test_health_follows_the_reports(lab: Lab) -> None:
    async with _served(lab) as (_, channel):
        call, _ = await _attach(channel, _report())
        await call.write(lab_pb2.AgentMessage(report=_report(health=bench_pb2.UNHEALTHY)))
        await _until(lab, "bench-1", lambda view: view.health is Health.UNHEALTHY)
        await call.write(lab_pb2.AgentMessage(report=_report()))
        await _until(lab, "bench-1", lambda view: view.state is BenchState.AVAILABLE)


async def test_measured_power_follows_the_reports_without_being_stored(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _served(lab) as (_, channel):
        call, _ = await _attach(channel, _report())
        assert lab.fleet.bench("bench-1").power == {"battery": PowerReading()}
        monkeypatch.setattr(lab.core, "transaction", None)  # nothing of this is worth one
        report = _report()
        battery = report.description.power[0]
        battery.on, battery.measured_voltage, battery.measured_ns = True, 13.5, 2_000_000_000
        await call.write(lab_pb2.AgentMessage(report=report))
        wanted = {"battery": PowerReading(on=True, voltage=13.5, current=None, at=2.0)}
        await _until(lab, "bench-1", lambda view: view.power == wanted)
        shown = bench_answer(lab.fleet.bench("bench-1"), ANONYMOUS).equipment.power[0]
        assert (shown.state, shown.measured_voltage, shown.measured_current) == ("on", 13.5, None)
        monkeypatch.undo()
        call.cancel()
        await _until(lab, "bench-1", lambda view: view.power == {})


async def test_a_newer_stream_of_the_same_agent_ends_the_older(lab: Lab) -> None:
    async with _served(lab) as (_, channel):
        older, _ = await _attach(channel, _report())
        await _attach(channel, _report())
        code, details = await _ended(older)
        assert (code, details) == (grpc.StatusCode.UNAVAILABLE, "agent agent-1 attached anew")
        assert lab.fleet.bench("bench-1").health is Health.HEALTHY


async def test_a_silent_agent_is_offline_and_a_quiet_labd_ticks(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicer, "TICK_S", 0.05)
    monkeypatch.setattr(servicer, "SILENCE_S", 0.3)
    async with _served(lab) as (_, channel):
        call, _ = await _attach(channel, _report())
        tick = await call.read()
        assert isinstance(tick, lab_pb2.LabMessage)
        assert tick.WhichOneof("message") == "tick"
        code, details = await _ended(call)
        assert (code, details) == (grpc.StatusCode.UNAVAILABLE, "the agent said nothing for 0.3 s")
        assert lab.fleet.bench("bench-1").health is Health.OFFLINE


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (lab_pb2.AgentMessage(report=_report()), "must be Hello"),
        (lab_pb2.AgentMessage(hello=lab_pb2.Hello(agent="", address="a:1")), "an agent name ('')"),
        (_hello(_report(), _report()), "['bench-1', 'bench-1']"),
        (_hello(_report("")), "['']"),
    ],
)
async def test_a_bad_greeting_is_refused(lab: Lab, first: lab_pb2.AgentMessage, words: str) -> None:
    async with _served(lab) as (_, channel):
        call: Call = lab_pb2_grpc.LabStub(channel).Attach(timeout=DEADLINE_S)
        await call.write(first)
        code, details = await _ended(call)
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert words in details


async def test_stopping_hangs_up_on_agents(lab: Lab) -> None:
    async with _served(lab) as (server, channel):
        call, _ = await _attach(channel, _report())
        await server.stop()
        assert (await _ended(call))[0] is grpc.StatusCode.UNAVAILABLE


async def test_the_port_is_not_shared_with_another_labd_and_health_is_served(lab: Lab) -> None:
    first, second = AgentsServer(lab), AgentsServer(lab)
    port = first.bind("127.0.0.1:0")
    await first.start()
    with pytest.raises(AddressInUse, match=f"cannot listen on 127.0.0.1:{port}"):
        second.bind(f"127.0.0.1:{port}")
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        answer = await health_pb2_grpc.HealthStub(channel).Check(
            health_pb2.HealthCheckRequest(service="labd.lab.v1.Lab"), timeout=DEADLINE_S
        )
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    for server in (first, second):
        await server.stop()


async def test_a_method_without_an_entry_is_closed_to_everybody() -> None:

    server = grpc.aio.server(interceptors=[ListedOnly({})])
    servicer_of_health = health.aio.HealthServicer()
    health_pb2_grpc.add_HealthServicer_to_server(servicer_of_health, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    finally:
        await server.stop(None)


async def test_a_stream_ends_also_in_the_moment_of_an_order(lab: Lab) -> None:
    async with _served(lab) as (_, channel):
        call, _ = await _attach(channel, _report())
        link = lab.fleet.sessions()["agent-1"].link
        link.send(FenceOrder("bench-1", 1, "ended"))
        link.close("over")
        assert (await _ended(call))[1] == "over"


async def test_an_agent_stays_while_the_database_is_away_and_what_it_says_is_taken_in_later(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intake, "RETRY_S", 0.01)
    async with _served(lab) as (_, channel):
        call, _ = await _attach(channel, _report(), _report("bench-2"))
        with monkeypatch.context() as patch:
            refused = _no_database(lab, patch)
            await call.write(lab_pb2.AgentMessage(report=_report(health=bench_pb2.UNHEALTHY)))
            await call.write(lab_pb2.AgentMessage(report=_report("bench-2", health=bench_pb2.UNHEALTHY)))
            async with asyncio.timeout(DEADLINE_S):
                while len(refused) < 3:  # noqa: ASYNC110 - the lab tells nobody that it tries again
                    await asyncio.sleep(0.005)
            assert lab.fleet.bench("bench-1").health is Health.HEALTHY
        await _until(lab, "bench-1", lambda view: view.health is Health.UNHEALTHY)
        await _until(lab, "bench-2", lambda view: view.health is Health.UNHEALTHY)
        assert not call.done()


def _no_database(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Has every transaction refused; they are counted in what is returned."""
    refused: list[str] = []

    def refuse() -> None:
        refused.append("the database cannot be reached")
        raise DatabaseUnwritable(refused[-1])

    monkeypatch.setattr(lab.core.store, "write", refuse)
    return refused


async def test_an_agent_is_told_to_come_later_when_the_database_is_away(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    _no_database(lab, monkeypatch)
    async with _served(lab) as (_, channel):
        call: Call = lab_pb2_grpc.LabStub(channel).Attach(timeout=DEADLINE_S)
        await call.write(_hello(_report()))
        assert await _ended(call) == (grpc.StatusCode.UNAVAILABLE, "the database cannot be reached")


async def test_an_agent_is_told_how_long_traces_may_stay(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servicer, "TICK_S", 0.05)
    first = Retention(TeamRetention(traces_days=30), {"chassis": TeamRetention(traces_mb=500)})
    lab.retaining.replace(ANONYMOUS, first)
    async with _served(lab) as (_, channel):
        call, _ = await _attach(channel, _report())
        rules = await _trace_rules(call)
        assert (rules.default.max_age_s, rules.default.HasField("max_bytes")) == (30 * DAY_S, False)
        assert (rules.teams["chassis"].max_bytes, rules.teams["chassis"].HasField("max_age_s")) == (500_000_000, False)
        await asyncio.to_thread(lab.retaining.replace, ANONYMOUS, Retention())
        assert await _trace_rules(call) == lab_pb2.TraceRules(default=lab_pb2.TraceBounds())
        call.cancel()


async def _trace_rules(call: Call) -> lab_pb2.TraceRules:
    while True:
        message = await call.read()
        assert isinstance(message, lab_pb2.LabMessage)
        if message.HasField("trace_rules"):
            return message.trace_rules

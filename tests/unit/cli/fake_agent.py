"""A fake bench agent: a real gRPC server that answers what a test lays down for it."""

import queue
import threading
from collections.abc import Iterable, Iterator
from concurrent import futures

import grpc

from bench_agent.protocol import (
    bench_pb2,
    bench_pb2_grpc,
    diagnostics_pb2,
    diagnostics_pb2_grpc,
    flash_pb2,
    flash_pb2_grpc,
    frames,
    replay_pb2,
    replay_pb2_grpc,
    trace_pb2,
    trace_pb2_grpc,
    traffic_pb2,
    traffic_pb2_grpc,
)
from bench_agent.protocol.frames import Frame
from bench_agent.protocol.values import Plain, from_values, to_value

DEADLINE_S = 30.0
SENT_NS = 1_699_999_999_000_000_000


class FakeAgent(bench_pb2_grpc.BenchServicer):
    def __init__(self, token: str) -> None:
        self.token = token
        self.responses: dict[str, bytes] = {"22F190": b"\x62\xf1\x90WVWZZZ1KZ6W000001"}
        """Response PDU by request PDU in hexadecimal; others are not answered."""
        self.decoded: dict[str, Plain] = {"22F190": "WVWZZZ1KZ6W000001"}
        self.results: dict[str, Plain] = {}
        """Results of services by name; the exchange behind them is one of SecurityAccess, its key left out."""
        self.service_names = {
            0x10: "DiagnosticSessionControl",
            0x14: "ClearDiagnosticInformation",
            0x22: "ReadDataByIdentifier",
            0x2E: "WriteDataByIdentifier",
        }
        self.refusals = {0x33: ("securityAccessDenied", "locked; unlock with SecurityAccess first")}
        """Name and meaning by negative response code."""
        self.pending_us: list[int] = []
        self.requests: list[bench_pb2.UdsRequest] = []
        self.opened: list[bench_pb2.CanOpen] = []
        self.batches: queue.SimpleQueue[bench_pb2.FrameBatch] = queue.SimpleQueue()
        self.sends: list[bench_pb2.SendRequest] = []
        self.asked = threading.Event()
        self._closing = threading.Event()
        self._server = grpc.server(futures.ThreadPoolExecutor(8))
        bench_pb2_grpc.add_BenchServicer_to_server(self, self._server)
        self.replay = FakeReplay(self)
        replay_pb2_grpc.add_ReplayServicer_to_server(self.replay, self._server)
        self.traffic = FakeTraffic(self)
        traffic_pb2_grpc.add_TrafficServicer_to_server(self.traffic, self._server)
        self.traces = FakeTraces(self)
        trace_pb2_grpc.add_TracesServicer_to_server(self.traces, self._server)
        self.flash = FakeFlash(self)
        flash_pb2_grpc.add_FlashServicer_to_server(self.flash, self._server)
        self.diagnostics = FakeDiagnostics(self)
        diagnostics_pb2_grpc.add_DiagnosticsServicer_to_server(self.diagnostics, self._server)
        self.address = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"

    def __enter__(self) -> "FakeAgent":
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._server.stop(grace=0).wait(DEADLINE_S)

    def deliver(self, listed: Iterable[Frame], dropped: int = 0) -> None:
        self.batches.put(frames.batch(listed, dropped=dropped))

    def Describe(self, request: bench_pb2.DescribeRequest, context: grpc.ServicerContext) -> bench_pb2.BenchDescription:
        self.guard(context)
        return bench_pb2.BenchDescription(
            name="bench-1",
            buses=[bench_pb2.BusDescription(name="powertrain")],
            ecus=[bench_pb2.EcuDescription(name="ECM", bus="powertrain")],
            health=bench_pb2.HEALTHY,
        )

    def Uds(
        self, requests: Iterator[bench_pb2.UdsRequest], context: grpc.ServicerContext
    ) -> Iterator[bench_pb2.UdsReply]:
        self.guard(context)
        for request in requests:
            self.requests.append(request)
            self.asked.set()
            yield self._reply(request)

    def Can(
        self, requests: Iterator[bench_pb2.CanRequest], context: grpc.ServicerContext
    ) -> Iterator[bench_pb2.CanEvent]:
        self.guard(context)
        self.opened.append(next(requests).open)
        yield bench_pb2.CanEvent(opened=bench_pb2.BusDescription(name="powertrain"))
        while context.is_active() and not self._closing.is_set():
            try:
                yield bench_pb2.CanEvent(frames=self.batches.get(timeout=0.05))
            except queue.Empty:
                continue

    def Send(self, request: bench_pb2.SendRequest, context: grpc.ServicerContext) -> bench_pb2.SendReply:
        self.guard(context)
        self.sends.append(request)
        frame = Frame(SENT_NS, 0x100, 0, b"\x01\x02")
        return bench_pb2.SendReply(timestamp_ns=SENT_NS, frames=frames.batch([frame]))

    def Expect(self, request: bench_pb2.ExpectRequest, context: grpc.ServicerContext) -> bench_pb2.ExpectReply:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "labctl does not expect frames")

    def Recent(self, request: bench_pb2.RecentRequest, context: grpc.ServicerContext) -> bench_pb2.RecentReply:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "labctl does not look back")

    def _reply(self, request: bench_pb2.UdsRequest) -> bench_pb2.UdsReply:
        pdu = request.pdu
        if request.call.service in self.results:
            reply = bench_pb2.UdsReply(id=request.id, request=b"\x27\x02", hidden=4, response=b"\x67\x02")
            reply.result.CopyFrom(to_value(self.results[request.call.service]))
            return reply
        if request.WhichOneof("what") == "call":
            pdu = b"\x22" + request.call.arguments["did"].integer.to_bytes(2, "big")
        response = self.responses.get(pdu.hex().upper())
        reply = bench_pb2.UdsReply(id=request.id, request=pdu, response=response or b"", elapsed_us=1234)
        reply.service_name = self.service_names.get(pdu[0], f"service 0x{pdu[0]:02X}")
        reply.pending_us.extend(self.pending_us[:32])
        reply.pending_count = len(self.pending_us)
        if self.pending_us:
            reply.pending_last_us, reply.pending_longest_gap_us = self.pending_us[-1], 4_950_000
        if response is None:
            reply.error.kind = bench_pb2.UdsError.TIMEOUT
            reply.error.message = "ECM did not answer within 50 ms"
        elif response[:1] == b"\x7f":
            reply.negative.service, reply.negative.nrc = response[1], response[2]
            reply.negative.service_name = self.service_names[response[1]]
            reply.negative.nrc_name, reply.negative.meaning = self.refusals[response[2]]
        else:
            reply.result.CopyFrom(to_value(self.decoded.get(pdu.hex().upper(), response)))
        return reply

    def guard(self, context: grpc.ServicerContext) -> None:
        metadata = dict(context.invocation_metadata())
        if metadata.get("authorization") != f"Bearer {self.token}" or metadata.get("labd-bench") != "bench-1":
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "the lease token is not valid")


class FakeDiagnostics(diagnostics_pb2_grpc.DiagnosticsServicer):
    def __init__(self, agent: FakeAgent) -> None:
        self._agent = agent
        self.asked: list[tuple[str, str | bytes, dict[str, Plain]]] = []
        self.functional_ids: list[int] = []
        self.reply = diagnostics_pb2.FunctionalReply()

    def Functional(
        self, request: diagnostics_pb2.FunctionalRequest, context: grpc.ServicerContext
    ) -> diagnostics_pb2.FunctionalReply:
        self._agent.guard(context)
        what = request.pdu if request.WhichOneof("what") == "pdu" else request.call.service
        self.functional_ids.append(request.functional_id)
        self.asked.append((request.bus, what, from_values(request.call.arguments)))
        return self.reply


class FakeFlash(flash_pb2_grpc.FlashServicer):
    def __init__(self, agent: FakeAgent) -> None:
        self._agent = agent
        self.starts: list[flash_pb2.FlashStart] = []
        self.images: list[bytes] = []
        self.verdicts: list[flash_pb2.FlashVerdict] = []
        """One for each attempt; good ones when there are none left."""

    def Write(
        self, requests: Iterator[flash_pb2.FlashRequest], context: grpc.ServicerContext
    ) -> Iterator[flash_pb2.FlashEvent]:
        self._agent.guard(context)
        start = next(requests).start
        self.starts.append(start)
        image = b""
        while len(image) < start.size:
            image += next(requests).data
        self.images.append(image)
        for phase in ("prepare", "transfer"):
            at = flash_pb2.FlashProgress(phase=phase, done=0, total=start.size, address=0x8000)
            yield flash_pb2.FlashEvent(progress=at)
        end = flash_pb2.FlashProgress(phase="done", done=start.size, total=start.size)
        good = flash_pb2.FlashVerdict(ok=True, at=end, elapsed_ms=2000)
        yield flash_pb2.FlashEvent(verdict=self.verdicts.pop(0) if self.verdicts else good)


class FakeTraces(trace_pb2_grpc.TracesServicer):
    def __init__(self, agent: FakeAgent) -> None:
        self._agent = agent
        self.described = [trace_pb2.TraceDescription(bus="powertrain", formats=["blf"])]
        self.content = b""
        self.requests: list[trace_pb2.FetchTraceRequest] = []

    def List(self, request: trace_pb2.ListTracesRequest, context: grpc.ServicerContext) -> trace_pb2.ListTracesReply:
        self._agent.guard(context)
        return trace_pb2.ListTracesReply(traces=self.described)

    def Fetch(
        self, request: trace_pb2.FetchTraceRequest, context: grpc.ServicerContext
    ) -> Iterator[trace_pb2.TracePart]:
        self._agent.guard(context)
        self.requests.append(request)
        yield trace_pb2.TracePart(data=b"?" * len(self.content), frames=7)
        yield trace_pb2.TracePart(data=self.content, frames=7)


class FakeTraffic(traffic_pb2_grpc.TrafficServicer):
    def __init__(self, agent: FakeAgent) -> None:
        self._agent = agent
        self.started: list[traffic_pb2.CyclicRequest] = []
        self.rest: list[traffic_pb2.RestBusRequest] = []
        self.message = traffic_pb2.CyclicMessage(id=1, message="EngineControl", can_id=0x100, period_us=10_000)
        self.running = False
        self.begun = threading.Event()

    def _now(self) -> traffic_pb2.CyclicMessage:
        self.message.sent += 1
        return self.message

    def StartCyclic(
        self, request: traffic_pb2.CyclicRequest, context: grpc.ServicerContext
    ) -> traffic_pb2.CyclicMessage:
        self._agent.guard(context)
        self.started.append(request)
        self.running = True
        self.begun.set()
        return self.message

    def UpdateCyclic(
        self, request: traffic_pb2.CyclicUpdate, context: grpc.ServicerContext
    ) -> traffic_pb2.CyclicMessage:
        if request.HasField("running"):
            self.running = request.running
        return self._now()

    def Preview(self, request: traffic_pb2.PreviewRequest, context: grpc.ServicerContext) -> traffic_pb2.PreviewReply:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "labctl makes no payloads")

    def MeasureCycle(self, request: traffic_pb2.CycleRequest, context: grpc.ServicerContext) -> traffic_pb2.CycleReply:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "labctl measures no cycles")

    def StartRestBus(self, request: traffic_pb2.RestBusRequest, context: grpc.ServicerContext) -> traffic_pb2.RestBus:
        self._agent.guard(context)
        self.rest.append(request)
        self.running = True
        self.begun.set()
        event = traffic_pb2.CyclicMessage(id=2, message="Gear", can_id=0x98DAF110, on_change=True)
        left_out = traffic_pb2.LeftOut(message="EngineStatus", reason="ECM sends it")
        return traffic_pb2.RestBus(id=7, bus="powertrain", messages=[self.message, event], left_out=[left_out])

    def StopRestBus(
        self, request: traffic_pb2.RestBusStop, context: grpc.ServicerContext
    ) -> traffic_pb2.RestBusStopped:
        self.running = False
        return traffic_pb2.RestBusStopped()

    def List(self, request: traffic_pb2.TrafficRequest, context: grpc.ServicerContext) -> traffic_pb2.TrafficReply:
        return traffic_pb2.TrafficReply(messages=[self._now()])


class FakeReplay(replay_pb2_grpc.ReplayServicer):
    def __init__(self, agent: FakeAgent) -> None:
        self._agent = agent
        self.opened: list[replay_pb2.ReplayOpen] = []
        self.played: list[Frame] = []
        self.end = replay_pb2.ReplayEvent(done=True)

    def Play(
        self, requests: Iterator[replay_pb2.ReplayRequest], context: grpc.ServicerContext
    ) -> Iterator[replay_pb2.ReplayEvent]:
        self._agent.guard(context)
        self.opened.append(next(requests).open)
        for request in requests:
            self.played += frames.unbatch(request.frames)
        self.end.sent = len(self.played) - self.end.failed
        yield self.end

"""The Bench service: hands each admitted call over to the part that knows how."""

from collections.abc import AsyncIterable

from bench_agent.protocol import bench_pb2, bench_pb2_grpc
from bench_agent.server import can_service, expect_service, uds_service
from bench_agent.server.door import Context
from bench_agent.server.leased import Leased


class BenchServicer(Leased, bench_pb2_grpc.BenchServicer):
    """Methods as in bench.proto. The door has admitted the caller before any of them runs."""

    async def Describe(self, request: bench_pb2.DescribeRequest, context: Context) -> bench_pb2.BenchDescription:
        """What the bench carries: buses, ECUs, labels, health."""
        return self.bench().describe()

    async def Can(  # type: ignore[override]  # grpc.aio also takes coroutines that write to the context
        self, request_iterator: AsyncIterable[bench_pb2.CanRequest], context: Context
    ) -> None:
        """Frames of one bus, both ways."""
        await can_service.stream(self.bench(), request_iterator, context)

    async def Send(self, request: bench_pb2.SendRequest, context: Context) -> bench_pb2.SendReply:
        """Puts frames or one DBC message on a bus."""
        return await can_service.send(self.bench(), request)

    async def Expect(self, request: bench_pb2.ExpectRequest, context: Context) -> bench_pb2.ExpectReply:
        """Waits for a frame or a DBC message that meets all conditions."""
        return await expect_service.expect(self.bench(), request)

    async def Recent(self, request: bench_pb2.RecentRequest, context: Context) -> bench_pb2.RecentReply:
        """The last frames of this lease."""
        return can_service.recent(self.bench(), request)

    async def Uds(  # type: ignore[override]
        self, request_iterator: AsyncIterable[bench_pb2.UdsRequest], context: Context
    ) -> None:
        """Diagnostic exchanges with the bench's ECUs."""
        await uds_service.stream(self.bench(), request_iterator, context)

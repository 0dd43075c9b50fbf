"""Many agents that only report: ``python -m tests.benchmarks.agents_load HOST:PORT FIRST COUNT``, until SIGTERM.

They speak the agents' real protocol, each on a connection of its own, and confirm every fence at once, but have no
bench behind them: no lease could be acted on there. When labd hangs up, each dials again as agents do.
"""

import asyncio
import contextlib
import resource
import sys

import grpc

from bench_agent.protocol import bench_pb2, lab_pb2, lab_pb2_grpc
from bench_agent.server.attach import OPTIONS
from bench_agent.server.doors import Doors

REPORT_S = 5.0
FILES_EACH = 4
"""File descriptors that a connection may need."""


def report(number: int) -> lab_pb2.BenchReport:
    """The bench of an agent."""
    description = bench_pb2.BenchDescription(
        name=f"bench-{number:04}",
        labels={"platform": "meb", "site": f"site-{number % 10}"},
        health=bench_pb2.HEALTHY,
        buses=[bench_pb2.BusDescription(name="powertrain", interface="socketcan", channel="can0", fd=True)],
    )
    return lab_pb2.BenchReport(description=description)


async def attach(channel: grpc.aio.Channel, number: int, welcomed_s: float) -> bool:
    """One stream of one agent, until labd ends it; whether it was welcomed. Raises TimeoutError when that took long."""
    call = lab_pb2_grpc.LabStub(channel).Attach()
    stands = report(number)
    hello = lab_pb2.Hello(
        agent=f"agent-{number:04}", version="0", address=f"127.0.0.1:{20000 + number}", benches=[stands]
    )
    message = lab_pb2.AgentMessage(report=stands)
    await call.write(lab_pb2.AgentMessage(hello=hello))
    async with asyncio.timeout(welcomed_s):
        if not isinstance(await call.read(), lab_pb2.LabMessage):
            return False

    async def tell() -> None:
        while True:
            await asyncio.sleep(REPORT_S)
            await call.write(message)

    telling = asyncio.create_task(tell())
    try:
        while isinstance(order := await call.read(), lab_pb2.LabMessage):
            if order.HasField("fence"):
                fenced = lab_pb2.Fenced(bench=order.fence.bench, epoch=order.fence.epoch)
                await call.write(lab_pb2.AgentMessage(fenced=fenced))
    except (grpc.RpcError, asyncio.InvalidStateError):
        pass  # labd is gone
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
    return True


async def keep_attached(labd: str, number: int) -> None:
    """One agent, for ever."""
    doors = Doors([labd])
    while True:
        welcomed = False
        with contextlib.suppress(grpc.RpcError, asyncio.InvalidStateError, TimeoutError):
            async with grpc.aio.insecure_channel(labd, options=OPTIONS) as channel:
                await asyncio.wait_for(channel.channel_ready(), doors.patience_s)
                welcomed = await attach(channel, number, doors.patience_s)
        await asyncio.sleep(doors.move_on(welcomed=welcomed))


async def main(labd: str, first: int, count: int) -> None:
    """All of them, spread over the interval of reports."""
    async with asyncio.TaskGroup() as group:
        for number in range(first, first + count):
            group.create_task(keep_attached(labd, number))
            await asyncio.sleep(REPORT_S / count)


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if most != resource.RLIM_INFINITY and most < int(sys.argv[3]) * FILES_EACH:
        sys.exit(f"{sys.argv[3]} agents need {int(sys.argv[3]) * FILES_EACH} open files; the limit is {most}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))

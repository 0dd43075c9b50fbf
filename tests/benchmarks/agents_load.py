"""Many agents that only report: ``python -m tests.benchmarks.agents_load HOST:PORT AGENTS``, until SIGTERM.

They speak the agents' real protocol, but have no bench behind them: no lease could be acted on there.
"""

import asyncio
import sys

import grpc

from bench_agent.protocol import bench_pb2, lab_pb2, lab_pb2_grpc

REPORT_S = 5.0
STREAMS = 20
"""Of one connection."""


def report(number: int, fenced: int) -> lab_pb2.BenchReport:
    """The bench of an agent."""
    description = bench_pb2.BenchDescription(
        name=f"bench-{number:04}",
        labels={"platform": "meb", "site": f"site-{number % 10}"},
        health=bench_pb2.HEALTHY,
        buses=[bench_pb2.BusDescription(name="powertrain", interface="socketcan", channel="can0", fd=True)],
    )
    return lab_pb2.BenchReport(description=description, fenced_epoch=fenced)


async def attach(channel: grpc.aio.Channel, number: int) -> None:
    """One agent, for ever."""
    call = lab_pb2_grpc.LabStub(channel).Attach()
    hello = lab_pb2.Hello(
        agent=f"agent-{number:04}", version="0", address=f"127.0.0.1:{20000 + number}", benches=[report(number, 0)]
    )
    await call.write(lab_pb2.AgentMessage(hello=hello))

    async def read() -> None:
        while await call.read() is not grpc.aio.EOF:
            pass
        raise RuntimeError(f"labd hung up on agent {number}: {await call.details()}")

    reading = asyncio.create_task(read())
    while not reading.done():
        await call.write(lab_pb2.AgentMessage(report=report(number, 0)))
        await asyncio.wait([reading], timeout=REPORT_S)
    reading.result()


async def main(labd: str, agents: int) -> None:
    """All of them, spread over the interval."""
    options = (("grpc.use_local_subchannel_pool", 1),)
    channels = [grpc.aio.insecure_channel(labd, options=options) for _ in range(-(-agents // STREAMS))]
    async with asyncio.TaskGroup() as group:
        for number in range(agents):
            group.create_task(attach(channels[number // STREAMS], number))
            await asyncio.sleep(REPORT_S / agents)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))

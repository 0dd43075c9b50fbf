"""An agent process with a load on its virtual bus: what the agent's own process would see from a busy vehicle.

Arguments: the agent's configuration file. Once attached, each line on stdin is a number of frames that another node of
the bus then sends as fast as it can; the answer on stdout is the time of the first one, in s since the Unix epoch.
"""

import asyncio
import sys
import threading
import time
from pathlib import Path

import can
import structlog

from bench_agent.server import config
from bench_agent.server.agent import Agent
from bench_agent.server.tuning import settle

CHANNEL = "can-load"


def serve_load(stopped: "asyncio.Event", loop: asyncio.AbstractEventLoop) -> None:
    """The loading node, in a thread of its own."""
    message = can.Message(arbitration_id=0x123, data=bytes(8), is_extended_id=False)
    with can.Bus(interface="virtual", channel=CHANNEL) as bus:
        for line in sys.stdin:
            started = time.time()
            for _ in range(int(line)):
                bus.send(message)
            sys.stdout.write(f"{started}\n")
            sys.stdout.flush()
    loop.call_soon_threadsafe(stopped.set)


async def main() -> None:
    """Serves until stdin ends."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    agent = Agent(config.load(Path(sys.argv[1])))
    await agent.start()
    settle()
    stopped = asyncio.Event()
    threading.Thread(target=serve_load, args=(stopped, asyncio.get_running_loop()), daemon=True).start()
    try:
        await stopped.wait()
    finally:
        await agent.stop()


if __name__ == "__main__":
    asyncio.run(main())

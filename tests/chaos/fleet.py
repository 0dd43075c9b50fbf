"""Many real agents in one process: ``python -m tests.chaos.fleet --labd HOST:PORT --folder DIR --agents 1-10``.

Each has its own data directory, one bench ``hil-NN`` on a virtual bus, and a platform out of `PLATFORMS`.
"""

import argparse
import asyncio
import json
import signal
from pathlib import Path

from bench_agent.server import config
from bench_agent.server.agent import Agent
from tests.chaos.benches import PLATFORMS, bench_name


def write_configurations(folder: Path, labd: str, listen: str, numbers: range) -> list[Path]:
    """One file an agent, which listens on the host ``listen``; the benches' names are what `bench_name` says."""
    paths = []
    for number in numbers:
        home = folder / f"agent-{number:02}"
        home.mkdir(parents=True, exist_ok=True)
        bus = {"name": "powertrain", "interface": "virtual", "channel": f"chaos-{number}"}
        labels = {"platform": PLATFORMS[number % len(PLATFORMS)], "site": f"site-{number % 2}"}
        agent = {"name": f"agent-{number:02}", "listen": f"{listen}:0", "labd": labd, "data_dir": "data"}
        path = home / "agent.yaml"
        path.write_text(
            json.dumps({"agent": agent, "benches": [{"name": bench_name(number), "labels": labels, "can": [bus]}]})
        )
        paths.append(path)
    return paths


async def serve(paths: list[Path]) -> None:
    """Serves until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    agents = [Agent(config.load(path)) for path in paths]
    for agent in agents:
        await agent.start()
    print(f"{len(agents)} agents serve", flush=True)
    await stop.wait()
    await asyncio.gather(*(agent.stop() for agent in agents))


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--labd", required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--listen", default="127.0.0.1")
    parser.add_argument("--agents", required=True, help="first and last number")
    arguments = parser.parse_args()
    first, _, last = arguments.agents.partition("-")
    numbers = range(int(first), int(last) + 1)
    asyncio.run(serve(write_configurations(arguments.folder, arguments.labd, arguments.listen, numbers)))


if __name__ == "__main__":
    main()

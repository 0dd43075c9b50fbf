"""Figures of a real agent, through a real labd, in a real time-series server; all of them killed or away in between."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import yaml

from deploy.demo.lab import agent_command, service
from tests.integration.labd_support import Daemon, until
from tests.victoria import Victoria, victoria


@contextmanager
def agent(folder: Path, labd: str, interval_s: float) -> Iterator[None]:
    """Killed with -9 at the end."""
    bench = {"name": "bench-1", "can": [{"name": "powertrain", "interface": "virtual", "channel": "points"}]}
    metrics = {"interval_s": interval_s}
    own = {"name": "rack-1", "data_dir": str(folder / "agent"), "metrics": metrics}
    configuration = {"agent": own, "benches": [bench]}
    (folder / "agent.yaml").write_text(yaml.safe_dump(configuration))
    with service("agent", agent_command(folder / "agent.yaml", labd, folder / "agent"), folder) as process:
        try:
            yield
        finally:
            process.kill()
            process.wait()


def waiting(folder: Path) -> list[int]:
    """The numbers of the batches that the agent keeps for labd."""
    return sorted(int(path.stem.split("-")[1]) for path in (folder / "agent").rglob("*.points"))


def told_by(labd: Daemon) -> int:
    """How many intervals labd knows of, each of which counts once."""
    found = labd.client.series("agent", "memory_bytes", aggregate="count")["series"]
    return int(sum(float(value) for one in found for _, value in one["points"]))


def moments(server: Victoria) -> list[float]:
    """The times of the intervals in the time-series server, where equal points are one."""
    return sorted(set(server.moments("agent_memory_bytes")))


def test_every_interval_arrives_once_whoever_is_killed_on_the_way(tmp_path: Path) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(victoria(tmp_path / "victoria"))
        server.stop()
        influx = ["--influx-url", server.url, "--influx-org", "lab", "--influx-bucket", "labd"]
        labd = stack.enter_context(Daemon(tmp_path / "labd", *influx))
        with agent(tmp_path, labd.agents, 0.2):
            until(lambda: told_by(labd) >= 2, "labd knows of two intervals")
            labd.kill()
            last = max(waiting(tmp_path), default=0)
            until(lambda: len(waiting(tmp_path)) >= 8, "the agent keeps eight intervals")
            labd.start()
            until(lambda: min(waiting(tmp_path), default=last) > last + 2, "labd takes them")
            labd.kill()
            until(lambda: len(waiting(tmp_path)) >= 2, "the agent keeps two intervals more")
        measured = max(waiting(tmp_path))
        server.start()
        labd.start()
        with agent(tmp_path, labd.agents, 3600):
            until(lambda: not waiting(tmp_path), "labd has them all")
        until(lambda: len(moments(server)) >= measured, "they are in the time-series server")
        assert told_by(labd) == measured
        assert len(moments(server)) == measured
        assert labd.client.series("points_dropped", "points")["series"] == []
        assert labd.client.series("labd_points_dropped", "points")["series"] == []
        assert [check["state"] for check in labd.client.doctor()["checks"] if check["name"] == "InfluxDB"] == ["ok"]

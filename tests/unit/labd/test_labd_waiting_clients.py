"""Both clients and labctl wait for news of a lease at a labd on a real socket, and hear of it at once."""

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from labd.cli.main import main
from labd.client import AsyncLabClient, LabClient, LabError, Lease
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeClock, attach, open_lab, report
from tests.unit.labd.serving import serving

DEADLINE_S = 30.0


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[Lab, str]]:
    lab = open_lab(tmp_path, FakeClock())
    attach(lab, report("bench-1"))
    with serving(lab) as (host, port):
        yield lab, f"http://{host}:{port}"
    lab.core.store.close()


@pytest.fixture
def client(served: tuple[Lab, str]) -> Iterator[LabClient]:
    with LabClient(served[1], timeout_s=60) as client:
        yield client


def waited_for(lab: Lab, lease_id: str) -> bool:
    return bool(lab.core.changes._listeners.get(lease_id))


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_changed_since_it_was_seen_is_not_waited_for(client: LabClient) -> None:
    held, waiting = client.create_lease(holder="ada"), client.create_lease(holder="bob")
    client.release(waiting["id"])
    assert client.lease(waiting["id"], seen=waiting, wait_s=60)["state"] == "ENDED"
    assert client.lease(held["id"], seen=held, wait_s=0.05) is held, "nothing has happened to it"
    client.heartbeat(held["id"])
    assert client.lease(held["id"], seen=held)["state"] == "ACTIVE"
    (listed,) = client.leases("ACTIVE")
    with pytest.raises(LabError, match="seen: expected what labd answered about one thing"):
        client.lease(held["id"], seen=listed, wait_s=1)


@pytest.mark.parametrize("asynchronous", [False, True])
def test_news_come_while_they_are_waited_for(served: tuple[Lab, str], client: LabClient, asynchronous: bool) -> None:
    lease = client.create_lease(holder="ada")

    async def news() -> Lease:
        async with AsyncLabClient(served[1], timeout_s=60) as lab:
            last = await lab.lease(lease["id"], seen=lease, wait_s=60)
            return await lab.lease(lease["id"], seen=last, wait_s=0.05)

    with ThreadPoolExecutor(1) as pool:
        if asynchronous:
            heard = pool.submit(lambda: asyncio.run(news()))
        else:
            heard = pool.submit(lambda: client.lease(lease["id"], seen=lease, wait_s=60))
        until(lambda: waited_for(served[0], lease["id"]))
        client.release(lease["id"])
        assert heard.result(DEADLINE_S)["state"] in ("ENDING", "ENDED")


def test_labctl_has_its_bench_as_soon_as_it_is_free(served: tuple[Lab, str], client: LabClient) -> None:
    lab, url = served
    held = client.create_lease(holder="ada")
    command = ["--labd", url, "lease", "acquire", "--holder", "bob", "--timeout", "1m"]
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(lambda: CliRunner().invoke(main, command))
        until(lambda: client.leases("QUEUED"))
        (waiting,) = client.leases("QUEUED")
        until(lambda: waited_for(lab, waiting["id"]))
        began = time.monotonic()
        client.release(held["id"])
        attach(lab, report("bench-1"))  # its agent confirms the end of the former lease
        answer = result.result(DEADLINE_S)
        assert time.monotonic() - began < 5, "it was told, it has not looked by and by"
    assert (answer.exit_code, "labctl lease release" in answer.stdout) == (0, True)
    assert client.lease(waiting["id"])["state"] == "GRANTED", "it is left to its holder"


def test_labctl_run_hears_at_once_that_its_run_was_cancelled(
    served: tuple[Lab, str], client: LabClient, tmp_path: Path
) -> None:
    script = tmp_path / "speed.lua"
    script.write_text("return")
    client.create_lease(holder="ada")
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(lambda: CliRunner().invoke(main, ["--labd", served[1], "run", str(script), "--wait"]))
        until(lambda: client.runs("PENDING"))
        (run,) = client.runs("PENDING")
        until(lambda: waited_for(served[0], run["id"]))
        client.cancel_run(run["id"])
        assert result.result(DEADLINE_S).exit_code == 3

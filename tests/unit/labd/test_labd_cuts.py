"""What labd cuts off is counted, told to whoever can still be told, and shown."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from labd.api import cuts, events
from labd.api.app import create_app
from labd.cli.main import main
from labd.client import AsyncLabClient, LabClient
from labd.model.identity import WHOLE_LAB, Role
from labd.model.run import LogLevel
from labd.services.lab import Lab
from labd.services.reporting import NewLine
from tests.unit.labd.fakes import FakeClock, attach, open_lab, report, settle
from tests.unit.labd.serving import serving
from tests.unit.labd.test_labd_secure import client, token_of


@pytest.fixture(autouse=True)
def nothing_yet() -> None:
    cuts.counted.clear()


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = open_lab(tmp_path, FakeClock(), secure=True)
    attach(lab, report("bench-1"))
    yield lab
    lab.core.store.close()


def test_a_reader_that_loses_its_right_is_told_so(lab: Lab) -> None:
    root = client(create_app(lab), token_of(lab, "root", {WHOLE_LAB: Role.ADMIN}))
    text = token_of(lab, "ada", {"default": Role.VIEWER})
    tokens = root.get("tokens", params={"all": True}).json()["items"]
    (prefix,) = (one["prefix"] for one in tokens if one["owner"] == "ada")

    async def read(url: str) -> list[str]:
        seen = []
        async with AsyncLabClient(url, token=text, timeout_s=60) as ada:
            stream = ada._http.lines("api/v1/leases/events", params={}, headers={}, read_timeout_s=60)
            async with stream as lines:
                async for line in lines:
                    if line.startswith("event: ready"):
                        await asyncio.to_thread(root.delete, f"tokens/{prefix}", params={"reason": "lost"})
                    if line.startswith(("event:", "data:")):
                        seen.append(line)
        return seen

    with serving(lab) as (host, port):
        said = asyncio.run(read(f"http://{host}:{port}"))
    assert said == ["event: ready", "data: {}", "event: cut", 'data: {"reason": "no right any more"}']
    assert root.get("status").json()["cut"] == {"no right any more": 1}


def test_a_follower_that_fell_behind_lists_anew_and_labctl_shows_it(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    token = token_of(lab, "root", {WHOLE_LAB: Role.ADMIN})
    with serving(lab) as (host, port):
        url = f"http://{host}:{port}"
        with LabClient(url, token=token, timeout_s=60) as root, monkeypatch.context() as patch:
            lease = root.create_lease(holder="root")["id"]
            patch.setattr(events, "_PENDING_MAX", -1)  # always too far behind
            follower = root.follow_leases()
            assert [next(follower)["id"] for _ in range(3)] == [lease] * 3  # over three connections
            assert root.status()["cut"]["too far behind"] >= 2
            assert root.status()["agents"] == 1
        shown = CliRunner().invoke(main, ["--labd", url, "status"], env={"LABD_TOKEN": token}).stdout
        found = CliRunner().invoke(main, ["--labd", url, "status", "-o", "json"], env={"LABD_TOKEN": token}).stdout
    assert "too far behind" in shown
    assert json.loads(found)["cut"]["too far behind"] >= 2


def test_a_log_goes_on_where_it_was_cut_off(lab: Lab) -> None:
    token = token_of(lab, "root", {WHOLE_LAB: Role.ADMIN})
    with serving(lab) as (host, port), LabClient(f"http://{host}:{port}", token=token, timeout_s=60) as root:
        run = root.create_run(script="return", holder="root")["id"]
        settle(lab)
        lab.reporting.append_log(run, 1, [NewLine(1.0, LogLevel.INFO, str(number)) for number in range(1, 8)])
        headers = {"Last-Event-ID": "3"}
        with root._http.stream(f"api/v1/runs/{run}/log", params={}, headers=headers, read_timeout_s=60) as read_line:
            ids: list[str] = []
            while len(ids) < 4:
                line = read_line(1 << 16).decode()
                if line.startswith("id: "):
                    ids.append(line.removeprefix("id: ").strip())
        assert ids == ["4", "5", "6", "7"]
        assert [line["seq"] for line in root.log(run, after=5)] == [6, 7]

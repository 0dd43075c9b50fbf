"""The agent's log of who had which bench."""

import json
import threading
from pathlib import Path

import pytest

from bench_agent.client import BenchClient
from bench_agent.protocol.claims import LeaseClaims, Scope
from bench_agent.server.holder_log import HolderLog
from tests.holders import entries, holdings
from tests.unit.bench_agent.harness import AgentFile, Signer, StartAgent


def claims(epoch: int, who: str = "me") -> LeaseClaims:
    return LeaseClaims(f"lease-{epoch}", "b", epoch, who, Scope.HOLDER, 100)


def test_the_log_tells_who_had_the_bench_from_when_until_when(
    start_agent: StartAgent, signer: Signer, agent_file: AgentFile
) -> None:
    running = start_agent()
    for epoch in (1, 2):
        with BenchClient(running.address, "bench-1", signer.token(epoch=epoch, holder=f"h{epoch}")) as bench:
            bench.describe()
            bench.ecu("ECM").call("read", did="VIN")
    running.fence(2)
    running.portal.call(running.agent.stop)
    lines = entries(agent_file.data)
    assert [(line["event"], line.get("epoch")) for line in lines] == [
        ("start", None),
        ("begin", 1),
        ("acts", 1),
        ("end", 1),
        ("begin", 2),
        ("acts", 2),
        ("end", 2),
    ]
    assert (lines[2]["who"], lines[2]["scope"], lines[5]["who"]) == ("h1", "bench", "h2")
    assert lines[2]["calls"] >= 2
    first, second = holdings(agent_file.data)
    assert (first.lease, second.lease) == ("lease-1", "lease-2")
    assert first.begun < first.ended <= second.begun < second.ended


def test_calls_of_two_holders_that_race_never_overlap(
    start_agent: StartAgent, signer: Signer, agent_file: AgentFile
) -> None:
    running = start_agent()
    stop = threading.Event()
    refused = []

    def hammer(epoch: int) -> None:
        with BenchClient(running.address, "bench-1", signer.token(epoch=epoch)) as bench:
            while not stop.is_set():
                try:
                    bench.recent(1)
                except Exception as error:
                    refused.append((epoch, str(error)))
                    return

    threads = [threading.Thread(target=hammer, args=(1,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    with BenchClient(running.address, "bench-1", signer.token(epoch=2)) as bench:
        bench.recent(1)
    for thread in threads:
        thread.join(30)  # each is refused
    assert {epoch for epoch, _ in refused} == {1}
    stop.set()
    running.portal.call(running.agent.stop)
    assert [holding.epoch for holding in holdings(agent_file.data)] == [1, 2]


def test_acts_are_summed_up_by_the_second_and_by_person(tmp_path: Path) -> None:
    now = [10.0]
    log = HolderLog(tmp_path / "holders.jsonl", now=lambda: now[0])
    log.begin(claims(1))
    for _ in range(50):
        log.acted(claims(1), 1)
        now[0] += 0.05
    log.acted(claims(1, "bob"), 1)
    log.end("b", "lease-1", 1)
    acts = [line for line in entries(tmp_path) if line["event"] == "acts"]
    assert [(line["who"], line["calls"]) for line in acts] == [("me", 20), ("me", 20), ("me", 10), ("bob", 1)]
    assert (acts[0]["first"], acts[0]["last"]) == (10.0, pytest.approx(10.95))


def test_the_log_is_bounded_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "holders.jsonl"
    for start in (0, 40):
        log = HolderLog(path, most_bytes=4000)
        log.start()
        for epoch in range(start + 1, start + 41):
            log.begin(claims(epoch))
            log.end("b", f"lease-{epoch}", epoch)
        log.close()
    assert path.stat().st_size <= 4000
    assert path.with_name("holders.jsonl.1").stat().st_size <= 4000
    assert holdings(tmp_path)[-1].epoch == 80
    assert sorted(path.name for path in tmp_path.iterdir()) == ["holders.jsonl", "holders.jsonl.1"]


def test_a_disk_that_takes_nothing_costs_no_lease_anything(tmp_path: Path) -> None:
    (tmp_path / "holders.jsonl").write_text("")
    broken = HolderLog(tmp_path / "holders.jsonl" / "below.jsonl")
    broken.begin(claims(1))
    broken.end("b", "lease-1", 1)
    assert broken.lost == 2


def test_the_witness_finds_two_holders(tmp_path: Path) -> None:
    begin = {"boot": 1.0, "event": "begin", "bench": "b", "lease": "l1", "epoch": 1, "who": "me"}
    other = begin | {"boot": 2.0, "lease": "l2", "epoch": 2}
    acts = begin | {"event": "acts", "first": 3.0, "last": 3.0}
    end = {"boot": 4.0, "event": "end", "bench": "b", "lease": "l1", "epoch": 1}
    for story, says in (
        ([begin, other], "two holders"),
        ([begin, end, acts], "without holding it"),
        ([begin, acts | {"epoch": 2}], "while"),
        ([other, end | {"epoch": 2}, begin], "old epoch"),
    ):
        (tmp_path / "holders.jsonl").write_text("".join(json.dumps(line) + "\n" for line in story))
        with pytest.raises(AssertionError, match=says):
            holdings(tmp_path)

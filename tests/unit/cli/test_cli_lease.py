import json
import os
import pty
import re
import signal
import threading
from datetime import UTC, datetime
from typing import Any, cast

import pytest

from labd.cli import leasing
from labd.cli.lease import usage
from labd.client import Heartbeats, LabClient, Lease, ProblemError, heartbeats
from tests.unit.cli.conftest import Labctl, Process
from tests.unit.client.fake_labd import FakeLabd, now


def grant_once_waited_for(labd: FakeLabd, looks: int = 1) -> threading.Thread:
    """Grants the first lease once labctl has asked for it so many times."""

    def grant() -> None:
        path = "/leases/lease-1"
        labd.wait_for(lambda: len(labd.asked("GET", path) + labd.asked("POST", f"{path}/heartbeat")) >= looks)
        with labd.changed:
            labd.grant(labd.leases["lease-1"])

    thread = threading.Thread(target=grant)
    thread.start()
    return thread


def test_acquire_says_how_to_use_the_bench_and_leaves_the_lease(labctl: Labctl, labd: FakeLabd) -> None:
    result = labctl("lease", "acquire", "--selector", "platform=meb", "--duration", "30m", "--holder", "ada")
    assert result.exit_code == 0
    for text in ("lease-1", "bench-1", "127.0.0.1:1", "labctl uds bench-1", "labctl lease release lease-1"):
        assert text in result.stdout
    assert "lease-token" not in result.stdout
    assert labd.leases["lease-1"]["state"] == "GRANTED"
    assert labd.asked("POST", "/leases") == [
        {"selector": "platform=meb", "holder": "ada", "duration_s": 1800.0, "ttl_s": 1800.0, "priority": "normal"}
    ]


def test_how_to_use_a_bench_of_a_secure_lab_has_the_certificate() -> None:
    bench = {"name": "bench-1", "address": "lab-pc:8480"}
    lease = cast(Lease, {"id": "lease-1", "state": "GRANTED", "benches": [bench]})
    secure, plain = usage(lease, "https://lab:8470"), usage(lease, "http://127.0.0.1:8470")
    assert "token, tls=tls)" in secure["use it"] and 'tls: lab.agent_tls("lease-1", "bench-1")' in secure["use it"]
    assert "tls" not in plain["use it"]


def test_nobody_beats_so_the_ttl_is_the_longest_that_labd_grants(labctl: Labctl, labd: FakeLabd) -> None:
    labctl("lease", "acquire", "--duration", "5h")
    assert labd.leases["lease-1"]["ttl_s"] == 3600
    assert labd.leases["lease-1"]["duration_s"] == 18000
    labctl("lease", "acquire", "--ttl", "2m")
    assert labd.leases["lease-2"]["ttl_s"] == 120


def test_json_has_the_token(labctl: Labctl) -> None:
    assert json.loads(labctl("lease", "acquire", "-o", "json").stdout)["token"] == "lease-token"


def test_waiting_tells_the_place_in_the_queue_once_when_it_is_no_terminal(labctl: Labctl, labd: FakeLabd) -> None:
    labd.free = False
    granting = grant_once_waited_for(labd)
    result = labctl("lease", "acquire", "-l", "platform=meb")
    granting.join()
    assert result.exit_code == 0
    assert result.stderr == "waiting for a bench with platform=meb: position 2 in the queue\n"
    assert "bench-1" in result.stdout
    (asked,) = labd.asked("GET", "/leases/lease-1")
    assert 5 < float(asked["wait"]) <= 10, "labd answers once there is news: it is not asked again and again"


def test_a_labd_that_lets_nobody_wait_is_not_asked_without_a_pause(labctl: Labctl, labd: FakeLabd) -> None:
    labd.free = labd.lets_wait = False
    assert labctl("lease", "acquire", "--timeout", "1s").exit_code == 75
    assert 1 <= len(labd.asked("GET", "/leases/lease-1")) <= 6


def test_a_database_that_restarts_does_not_cost_the_place_in_the_queue(labctl: Labctl, labd: FakeLabd) -> None:
    labd.free = False
    labd.once["GET", "/leases/lease-1"] = (503, {}, b'{"title": "Service Unavailable", "detail": "no database"}')
    granting = grant_once_waited_for(labd, looks=2)
    assert labctl("lease", "acquire").exit_code == 0
    granting.join()


def test_waiting_sends_heartbeats(labctl: Labctl, labd: FakeLabd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leasing, "BEATS_PER_TTL", 1000)
    labd.free = False
    granting = grant_once_waited_for(labd, looks=2)
    assert labctl("lease", "acquire", "--duration", "30s").exit_code == 0
    granting.join()
    assert labd.asked("POST", "/leases/lease-1/heartbeat")


def test_giving_up_leaves_the_queue(labctl: Labctl, labd: FakeLabd) -> None:
    labd.free = False
    result = labctl("lease", "acquire", "--timeout", "100ms")
    assert result.exit_code == 75
    assert "any bench did not come free within 0.1 s (position 2 in the queue)" in result.stderr
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_without_waiting_the_lease_stays_queued(labctl: Labctl, labd: FakeLabd) -> None:
    labd.free = False
    result = labctl("lease", "acquire", "--no-wait")
    assert result.exit_code == 0
    assert "QUEUED, position 2 in the queue" in result.stdout
    assert labd.leases["lease-1"]["state"] == "QUEUED"


def test_a_selector_that_can_never_match_is_refused_at_once(labctl: Labctl, labd: FakeLabd) -> None:
    labd.refuse("POST", "/leases", 422, "this can never be granted: no bench has platform=mib")
    result = labctl("lease", "acquire", "-l", "platform=mib")
    assert result.exit_code == 65
    assert result.stderr == "Error: this can never be granted: no bench has platform=mib\n"


def test_a_lease_that_ends_while_it_waits_is_told(labctl: Labctl, labd: FakeLabd) -> None:
    labd.free = False

    def end() -> None:
        labd.wait_for(lambda: labd.asked("GET", "/leases/lease-1"))
        with labd.changed:
            labd.end_lease(labd.leases["lease-1"], "bench_removed")

    ending = threading.Thread(target=end)
    ending.start()
    result = labctl("lease", "acquire")
    ending.join()
    assert result.exit_code == 65
    assert "lease-1 ended while it waited: its bench was removed" in result.stderr


def test_renew_release_and_show(labctl: Labctl, labd: FakeLabd) -> None:
    labd.grant(labd.add_lease())
    assert "GRANTED" in labctl("lease", "renew", "lease-1").stdout
    assert labd.asked("POST", "/leases/lease-1/heartbeat")
    assert "labctl lease release lease-1" in labctl("lease", "show", "lease-1").stdout
    labd.add_lease()
    assert labctl("lease", "release", "lease-1", "lease-2").stdout.splitlines() == [
        "lease-1 bench-1: it was released",
        "lease-2 any bench: it was released",
    ]
    ended = labctl("lease", "renew", "lease-1")
    assert (ended.exit_code, ended.stderr) == (65, "Error: lease lease-1 has ended: it was released\n")
    assert labctl("lease", "show", "nix").exit_code == 65


def test_ls_shows_the_live_ones_unless_asked_for_all(labctl: Labctl, labd: FakeLabd) -> None:
    labd.add_lease(holder="bob")
    labd.grant(labd.add_lease())
    labd.end_lease(labd.add_lease(), "expired")
    labd.leases["lease-2"].update(revoke_at=now(30), revoke_reason="bob needs it")
    assert re.search(r"^lease-2 .* wanted back in (29|30)\.0 s$", labctl("lease", "ls").stdout, re.MULTILINE)
    listed = [line.split()[:2] for line in labctl("lease", "ls").stdout.splitlines()[1:]]
    assert listed == [["lease-2", "GRANTED"], ["lease-1", "QUEUED"]]
    assert "its time was up" in labctl("lease", "ls", "--all").stdout
    assert len(labctl("lease", "ls", "--all", "--limit", "1").stdout.splitlines()) == 2
    assert [one["id"] for one in json.loads(labctl("lease", "ls", "--state", "ended", "-o", "json").stdout)] == [
        "lease-3"
    ]


def test_hold_keeps_the_lease_until_ctrl_c_and_then_releases(labd: FakeLabd, labctl_process: Process) -> None:
    with labctl_process("lease", "acquire", "--hold") as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "held until Ctrl-C\n"
        assert labd.leases["lease-1"]["ttl_s"] == 30
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_hold_ends_when_the_lease_is_lost(labctl: Labctl, labd: FakeLabd, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeats, "BEATS_PER_TTL", 1000)

    def end() -> None:
        labd.wait_for(lambda: labd.asked("POST", "/leases/lease-1/heartbeat"))
        with labd.changed:
            labd.end_lease(labd.leases["lease-1"], "expired")

    ending = threading.Thread(target=end)
    ending.start()
    result = labctl("lease", "acquire", "--hold")
    ending.join()
    assert result.exit_code == 65
    assert "lease lease-1 is lost: its time was up" in result.stderr


def test_notice_that_labd_wants_the_lease_back_is_told_once_on_stderr(
    labctl: Labctl, labd: FakeLabd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeats, "BEATS_PER_TTL", 1000)

    def beats() -> int:
        return len(labd.asked("POST", "/leases/lease-1/heartbeat"))

    def take_back() -> None:
        labd.wait_for(lambda: beats() > 0)
        with labd.changed:
            labd.leases["lease-1"] |= {
                "heartbeat_by": "2026-11-21T09:30:30Z",
                "revoke_at": "2026-11-21T09:31:00Z",
                "revoke_reason": "bob needs the bench with priority urgent",
            }
        seen = beats()
        labd.wait_for(lambda: beats() > seen + 3)
        with labd.changed:
            labd.end_lease(labd.leases["lease-1"], "preempted")

    taking = threading.Thread(target=take_back)
    taking.start()
    result = labctl("lease", "acquire", "--hold")
    taking.join()
    told = "labd takes lease lease-1 back in 60 s: bob needs the bench with priority urgent"
    assert result.stderr.count(told) == 1
    assert result.exit_code == 65


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_while_waiting_leaves_the_queue(
    labd: FakeLabd, labctl_process: Process, number: signal.Signals, code: int
) -> None:
    labd.free = False
    with labctl_process("lease", "acquire") as process:
        assert process.stderr is not None
        assert "position 2" in process.stderr.readline()
        process.send_signal(number)
        assert process.wait(10) == code
        assert "Traceback" not in process.stderr.read()
    assert labd.leases["lease-1"]["state"] == "ENDED"


def test_a_terminal_gets_a_live_line_with_place_and_time(labd: FakeLabd, labctl_process: Process) -> None:
    labd.free = False
    master, slave = pty.openpty()
    with (
        os.fdopen(master, "rb", buffering=0) as screen,
        labctl_process("lease", "acquire", stdout=slave, stderr=slave, stdin=slave) as process,
    ):
        os.close(slave)
        shown = b""
        while not re.search(rb"position 2 in the queue  (\d+ ms|[\d.]+ s|\d+ min)", shown):
            shown += screen.read(4096)
        with labd.changed:
            labd.grant(labd.leases["lease-1"])
        while b"lease release" not in shown:
            shown += screen.read(4096)
        assert process.wait(10) == 0
    assert b"bench-1" in shown


def test_waiting_tells_what_keeps_benches_away(labctl: Labctl, labd: FakeLabd) -> None:
    labd.add_lease(obstacle="bench-1 is offline")
    assert "position 2 in the queue; bench-1 is offline" in labctl("lease", "show", "lease-1").stdout


def test_a_labd_in_trouble_does_not_end_the_lease() -> None:
    full_disks = [True, False]

    class Ailing:
        def heartbeat(self, lease_id: str) -> dict[str, Any]:
            if full_disks.pop(0):
                raise ProblemError(503, "Service Unavailable", "the disk is full", [])
            return {"id": lease_id, "state": "ENDED", "end_reason": "expired", "ttl_s": 0.03}

    with Heartbeats(cast(LabClient, Ailing()), cast(Lease, {"id": "lease-1", "ttl_s": 0.03})) as heartbeats:
        assert heartbeats.lost.wait(10.0)
    assert heartbeats.reason == "its time was up"


def test_several_benches_are_leased_at_once_and_listed(labctl: Labctl, labd: FakeLabd) -> None:
    several = ("-l", "2*platform=meb", "-l", "gateway", "--same-site", "--affinity", "fw-7")
    labctl("lease", "acquire", *several, "--no-wait")
    (asked,) = labd.asked("POST", "/leases")
    assert asked["benches"] == [{"selector": "platform=meb", "count": 2}, {"selector": "gateway", "count": 1}]
    assert (asked["same_site"], asked["affinity"]) == (True, "fw-7")
    refused = labctl("lease", "acquire", "-l", "40*platform=meb")
    assert refused.exit_code == 64
    assert "'40*platform=meb' asks for 40 benches; a lease has 1 to 32" in refused.stderr


def test_a_booking_does_not_wait(labctl: Labctl, labd: FakeLabd) -> None:
    labd.free = False
    assert labctl("lease", "book", "-l", "gateway", "--from", "2026-12-01T09:30:00Z", "--for", "1h").exit_code == 0
    (asked,) = labd.asked("POST", "/leases")
    assert (datetime.fromisoformat(asked["starts_at"]), asked["held"], asked["duration_s"]) == (
        datetime(2026, 12, 1, 9, 30, tzinfo=UTC),
        True,
        3600,
    )
    assert "booked, starts" in labctl("lease", "ls").stdout
    unclear = labctl("lease", "book", "--from", "noon", "--for", "1h")
    assert unclear.exit_code == 64
    assert "'noon' is no time; write 2026-11-21T09:30, 2026-11-21T09:30Z, 09:30 or +2h" in unclear.stderr


def test_extend_transfer_and_share_say_what_is_so_now(labctl: Labctl, labd: FakeLabd) -> None:
    labd.grant(labd.add_lease())
    assert "lease-1 ends " in labctl("lease", "extend", "lease-1", "30m").stdout
    assert labd.asked("POST", "/leases/lease-1/extend") == [{"by_s": 1800.0}]
    shared = labctl("lease", "share", "lease-1", "--with", "bob", "--as", "co-driver")
    assert "bob may join you on bench-1 as co-driver until" in shared.stdout
    assert "lease-token" not in shared.stdout
    taken = labctl("lease", "unshare", "lease-1", "bob", "--reason", "he has seen it")
    assert taken.stdout == "lease-1 is not shared with bob any more, with carol still\n"
    assert labd.asked("DELETE", "/leases/lease-1/shares/bob") == [{"reason": "he has seen it"}]
    assert labctl("lease", "transfer", "lease-1", "--to", "bob").stdout == "lease-1 is bob's (team default)\n"


def test_why_names_what_keeps_each_bench_away(labctl: Labctl, labd: FakeLabd) -> None:
    labd.add_lease()
    told = labctl("lease", "why", "lease-1").stdout
    for text in (
        "position  2",
        "lease-0",
        "platform=meb excludes bench-3",
        "bench-2 is drained: new cables",
        "graz has too few of platform=meb",
    ):
        assert text in told
    assert re.search(r"bench-1 is held, by lease-0 until \S+Z at the latest \(in 59 min", told)


def test_why_of_a_booking_says_what_it_was_promised(labctl: Labctl, labd: FakeLabd) -> None:
    labd.add_lease()
    bench = {"bench": "bench-1", "why": "promised", "detail": None, "by": "lease-1", "until": now(3599)}
    free = {"bench": "bench-2", "why": "free", "detail": None, "by": None, "until": None}
    part = {"selector": "", "count": 1, "excluded": {}, "matching": [bench, free]}
    labd.why = {"position": None, "ahead": [], "parts": [part], "expected_start": now(3600)}
    told = labctl("lease", "why", "lease-1").stdout
    assert "bench-1 is promised to it\n" in told and "bench-2 is free then\n" in told
    assert re.search(r"^start +in .*, as booked$", told, re.MULTILINE)
    assert "recent" not in told and "ahead" not in told

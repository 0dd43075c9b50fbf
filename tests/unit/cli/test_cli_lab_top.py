"""`labctl top`: once into a pipe, live on a terminal."""

import json
import re
import signal

from hypothesis import given
from hypothesis import strategies as st

from labd.cli.lab_picture import Part, fitted
from tests.unit.cli.conftest import Labctl, Process
from tests.unit.cli.terminal import Terminal
from tests.unit.client.fake_labd import FakeLabd, make_bench, now


def _busy(labd: FakeLabd) -> None:
    run = labd.add_run(name="smoke.lua", state="RUNNING", benches=["bench-1"], started_at=now(-65))
    lease = labd.add_lease(holder="ci/42", run_id=run["id"])
    labd.grant(lease)
    labd.benches["bench-1"].update(state="leased", holder="ci/42", lease_id=lease["id"])
    labd.benches["rig-2"] = make_bench(
        "rig-2", state="unavailable", health="unhealthy", health_reason="can0: no such device"
    )
    labd.add_lease(holder="bob", position=1, selector="platform=meb", obstacle="rig-2 is unhealthy")
    labd.add_lease(holder="eve", position=None, starts_at=now(7200), selector="lin")


def test_a_pipe_gets_the_lab_as_it_is_once(labctl: Labctl, labd: FakeLabd) -> None:
    _busy(labd)
    first, *rest = labctl("top").stdout.splitlines()
    assert first == "2 benches (1 leased, 1 unavailable) · 1 waiting · 1 running"
    text = "\n".join(" ".join(line.split()) for line in rest)
    assert re.search(r"bench-1 leased ci/42 run smoke.lua (30|29) min", text)
    assert "rig-2 unhealthy - - - can0: no such device" in text
    assert "1 bob default normal" in text and "platform=meb rig-2 is unhealthy" in text
    assert re.search(r"booked eve default normal starts in (2 h 00|1 h 59) min lin", text)
    assert "smoke.lua RUNNING bench-1 1 min" in text


def test_an_empty_lab_says_so(labctl: Labctl, labd: FakeLabd) -> None:
    labd.benches.clear()
    assert labctl("top", "--once").stdout.split("\n\n") == [
        "no benches · 0 waiting · 0 running",
        "benches: none",
        "queue: none",
        "runs: none\n",
    ]


def test_programs_get_what_labd_says(labctl: Labctl, labd: FakeLabd) -> None:
    _busy(labd)
    told = json.loads(labctl("top", "-o", "json").stdout)
    assert [one["name"] for one in told["benches"]] == ["bench-1", "rig-2"]
    assert {one["holder"] for one in told["leases"]} == {"ci/42", "bob", "eve"}
    assert not any("token" in one for one in told["leases"])


def test_a_terminal_is_kept_up_to_date_and_left_as_it_was(
    labctl_process: Process, terminal: Terminal, labd: FakeLabd
) -> None:
    with labctl_process("top", "--interval", "0.5", stdout=terminal.far, stdin=terminal.far) as process:
        terminal.until(b"bench-1")
        assert b"\x1b[?1049h" in terminal.screen, "a screen of its own"
        labd.benches["new-rig"] = make_bench("new-rig")
        terminal.until(b"new-rig")
        labd.refuse("GET", "/benches", 503, "the database is away")
        terminal.until(b"as it was")
        del labd.canned["GET", "/benches"]
        labd.benches["later-rig"] = make_bench("later-rig")
        terminal.until(b"later-rig")
        process.send_signal(signal.SIGINT)
        terminal.until(b"\x1b[?1049l")
        assert process.wait(60) == 130
    assert b"Traceback" not in terminal.screen and terminal.restored


@given(st.lists(st.integers(0, 60), min_size=3, max_size=3), st.integers(0, 100))
def test_rows_are_shown_while_there_is_room_and_the_others_counted(sizes: list[int], lines: int) -> None:
    whole = [Part("x", ("a",), [(str(number),) for number in range(size)]) for size in sizes]
    shown = fitted(whole, lines)
    for before, after in zip(whole, shown, strict=True):
        assert len(after.rows) + after.left_out == len(before.rows)
        assert list(after.rows) == list(before.rows)[: len(after.rows)]
        assert len(after.rows) >= min(3, len(before.rows)), "a little of each, however small the terminal"
    used = sum(len(one.rows) for one in shown)
    assert used <= max(lines - 9, 0) or all(len(one.rows) <= 3 or used <= lines for one in shown)
    if used < lines - 9:
        assert not any(one.left_out for one in shown), "no room is left while rows are left out"

"""The parts of the guard: verdicts, epochs on disk, labd's clock, and what happens when a clean-up fails."""

import asyncio
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench_agent.protocol.claims import LeaseClaims, Scope
from bench_agent.server import guard as guard_module
from bench_agent.server import tenancy as tenancy_module
from bench_agent.server.cleanup import CleanUpStack
from bench_agent.server.epochs import EpochError, Epochs, EpochStore, Unshared
from bench_agent.server.errors import CallError, CleanUpError
from bench_agent.server.guard import Gate, Guard
from bench_agent.server.instance import InstanceError, only_instance
from bench_agent.server.keys import KeyRing
from bench_agent.server.lab_clock import LabClock
from bench_agent.server.rights import judge, no_longer_shared

epochs = st.integers(min_value=0, max_value=8)


def claims(epoch: int = 1, *, bench: str = "b", expires_at: int = 100) -> LeaseClaims:
    return LeaseClaims(f"lease-{epoch}", bench, epoch, "me", Scope.HOLDER, expires_at)


@given(epoch=epochs, seen=epochs, fenced=epochs, expires_at=st.integers(0, 10), now=st.integers(0, 10))
def test_only_the_newest_live_epoch_is_admitted(epoch: int, seen: int, fenced: int, expires_at: int, now: int) -> None:
    verdict = judge(claims(epoch, expires_at=expires_at), "b", left_s=expires_at - now, seen=seen, fenced=fenced)
    assert (verdict is None) == (epoch > fenced and epoch >= seen and expires_at > now)


@given(saves=st.lists(st.tuples(st.sampled_from("ab"), epochs, epochs), max_size=6))
def test_stored_epochs_only_grow(tmp_path_factory: pytest.TempPathFactory, saves: list[tuple[str, int, int]]) -> None:
    path = tmp_path_factory.mktemp("epochs") / "epochs.json"
    store = EpochStore(path)
    for bench, seen, fenced in saves:
        store.save(bench, Epochs(seen, fenced))
    again = EpochStore(path)
    for bench in "ab":
        of_bench = [save for save in saves if save[0] == bench]
        expected = Epochs(max((s for _, s, _ in of_bench), default=0), max((f for _, _, f in of_bench), default=0))
        assert store.get(bench) == again.get(bench) == expected


shares = st.builds(Unshared, epochs, st.dictionaries(st.sampled_from(["ada", "bob"]), epochs, min_size=1))


@given(saves=st.lists(shares, min_size=1, max_size=6))
def test_who_was_let_look_on_is_remembered_for_the_newest_epoch(
    tmp_path_factory: pytest.TempPathFactory, saves: list[Unshared]
) -> None:
    path = tmp_path_factory.mktemp("epochs") / "epochs.json"
    store = EpochStore(path)
    for unshared in saves:
        store.save("b", Epochs(unshared=unshared))
    newest = max(one.epoch for one in saves)
    for known in (store.get("b").unshared, EpochStore(path).get("b").unshared):
        for name in ("ada", "bob", "carol"):
            numbers = [one.up_to(name) for one in saves if one.epoch == newest]
            assert newest == 0 or known.up_to(name) == max(numbers)


@pytest.mark.parametrize("scope", Scope)
@given(epoch=epochs, number=epochs, up_to=epochs)
def test_a_share_is_refused_by_its_number_and_the_holder_never(
    scope: Scope, epoch: int, number: int, up_to: int
) -> None:
    token = replace(claims(epoch), scope=scope, share=number)
    refused = no_longer_shared(token, Unshared(3, {"me": up_to}))
    assert refused == (scope is not Scope.HOLDER and epoch == 3 and number <= up_to)
    assert not no_longer_shared(token, Unshared(3, {"you": up_to}))


def test_a_token_of_a_labd_that_did_not_count_shares_is_of_the_first() -> None:
    known = {**claims().to_jwt(), "share": 4}
    assert LeaseClaims.from_jwt(known).share == 4
    del known["share"]
    assert LeaseClaims.from_jwt(known).share == 0


@pytest.mark.anyio
async def test_a_share_that_was_taken_back_stays_so_when_the_agent_starts_anew(tmp_path: Path) -> None:
    observer = replace(live(3), scope=Scope.OBSERVER, share=1)
    first = make_gate(tmp_path, Bench())
    await first.start_unshare(3, "me", 1)
    for gate in (first, make_gate(tmp_path, Bench())):
        with pytest.raises(CallError, match="shared with me as observer no more"):
            await gate.enter(observer)
        gate.leave(await gate.enter(replace(observer, share=2)))


@pytest.mark.anyio
async def test_an_extension_holds_for_the_tokens_that_are_out(tmp_path: Path) -> None:
    gate = make_gate(tmp_path, Bench())
    over = claims(1, expires_at=int(time.time()) - 5)
    with pytest.raises(CallError, match="expired"):
        await gate.enter(over)
    gate.extend(1, int(time.time()) + 600)
    gate.leave(await gate.enter(over))
    gate.extend(1, 0)
    gate.leave(await gate.enter(over))
    with pytest.raises(CallError, match="expired"):
        await gate.enter(replace(over, epoch=2))
    await gate.fence(1, "released")
    with pytest.raises(CallError, match="released"):
        await gate.enter(over)


@pytest.mark.anyio
async def test_an_open_call_goes_on_past_the_former_end_of_an_extended_lease(tmp_path: Path) -> None:
    gate = make_gate(tmp_path, Bench())
    short = claims(1, expires_at=math.ceil(time.time()) + 1)
    call = await gate.enter(short)
    gate.extend(1, short.expires_at + 600)
    await asyncio.sleep(short.expires_at + 0.2 - time.time())
    assert call.cut_reason is None
    gate.leave(await gate.enter(short))
    gate.leave(call)
    assert gate.fenced == 0


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"b": 1}', '{"b": {"seen": -1, "fenced": 0}}', '{"b": {"seen": 1}}']
)
def test_an_unsound_epoch_file_is_an_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "epochs.json"
    path.write_text(content)
    with pytest.raises(EpochError, match=r"epochs\.json is not sound"):
        EpochStore(path)


def test_an_epoch_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EpochError, match="cannot be"):
        EpochStore(tmp_path / "file" / "epochs.json").save("b", Epochs(1, 0))


def test_one_agent_per_data_folder(tmp_path: Path) -> None:
    with (
        only_instance(tmp_path),
        pytest.raises(InstanceError, match=r"another agent \(process \d+\)"),
        only_instance(tmp_path),
    ):
        pass
    with only_instance(tmp_path):
        pass


class Bench:
    """A bench whose clean-up fails as often as it is told to."""

    name = "b"

    def __init__(self, failures: int = 0) -> None:
        self.failures = failures
        self.events: list[str] = []
        self.fault: str | None = None

    async def open_lease(self, lease: str, epoch: int, team: str) -> None:
        self.events.append(f"open {lease}")

    async def silence(self) -> None:
        pass

    async def close_lease(self) -> None:
        if self.failures:
            self.failures -= 1
            raise CleanUpError("the ECU is on fire")
        self.events.append("close")

    async def close_unseen(self, epoch: int) -> None:
        self.events.append(f"close unseen {epoch}")

    def set_clean_up_fault(self, reason: str | None) -> None:
        if reason is not None:
            self.events.append("fault")
        self.fault = reason


def make_gate(tmp_path: Path, bench: Bench) -> Gate:
    return Gate(bench, EpochStore(tmp_path / "epochs.json"), LabClock())


def live(epoch: int) -> LeaseClaims:
    return claims(epoch, expires_at=int(time.time()) + 600)


@pytest.mark.anyio
async def test_the_epoch_is_on_disk_before_the_call_is_admitted(tmp_path: Path) -> None:
    gate = make_gate(tmp_path, Bench())
    call = await gate.enter(live(5))
    assert json.loads((tmp_path / "epochs.json").read_text()) == {"b": {"seen": 5, "fenced": 4}}
    gate.leave(call)


@pytest.mark.anyio
async def test_a_failed_clean_up_quarantines_the_bench_until_it_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard_module, "_RETRY_S", 0.01)
    bench = Bench(failures=2)
    gate = make_gate(tmp_path, bench)
    gate.leave(await gate.enter(live(1)))
    fencing = gate.start_fence(1, "released")
    await asyncio.sleep(0)
    with pytest.raises(CallError, match="released"):
        await gate.enter(live(1))
    await fencing
    assert bench.events == ["open lease-1", "fault", "fault", "close"]
    assert bench.fault is None
    assert gate.fenced == 1


@pytest.mark.anyio
async def test_nobody_is_admitted_while_the_clean_up_fails(tmp_path: Path) -> None:
    bench = Bench(failures=1)
    gate = make_gate(tmp_path, bench)
    gate.leave(await gate.enter(live(1)))
    with pytest.raises(CallError, match="cannot be handed over: the ECU is on fire"):
        await gate.enter(live(2))
    assert gate.fenced == 0
    gate.leave(await gate.enter(live(2)))
    assert bench.events == ["open lease-1", "close", "open lease-2"]


@pytest.mark.anyio
async def test_the_former_holders_calls_have_ended_before_the_next_is_admitted(tmp_path: Path) -> None:
    bench = Bench()
    gate = make_gate(tmp_path, bench)
    entered = asyncio.Event()

    async def hold() -> None:
        call = await gate.enter(live(1))
        entered.set()
        try:
            await asyncio.Event().wait()
        finally:
            bench.events.append("call ended")
            gate.leave(call)

    holding = asyncio.create_task(hold())
    await entered.wait()
    gate.leave(await gate.enter(live(2)))
    assert bench.events == ["open lease-1", "call ended", "close", "open lease-2"]
    with pytest.raises(asyncio.CancelledError):
        await holding


@pytest.mark.anyio
async def test_a_caller_that_gives_up_does_not_leave_the_bench_half_handed_over(tmp_path: Path) -> None:
    bench = Bench()
    gate = make_gate(tmp_path, bench)
    entering = asyncio.create_task(gate.enter(live(1)))
    await asyncio.sleep(0)
    entering.cancel()
    with pytest.raises(asyncio.CancelledError):
        await entering
    gate.leave(await gate.enter(live(1)))
    assert bench.events == ["open lease-1"]


@pytest.mark.anyio
async def test_two_calls_at_once_open_the_lease_once(tmp_path: Path) -> None:
    bench = Bench()
    gate = make_gate(tmp_path, bench)

    async def one() -> None:
        gate.leave(await gate.enter(live(1)))

    await asyncio.gather(*(one() for _ in range(5)))
    assert bench.events == ["open lease-1"]


@pytest.mark.anyio
async def test_a_fence_that_comes_during_the_handover_wins(tmp_path: Path) -> None:
    bench = Bench()
    gate = make_gate(tmp_path, bench)
    entering = asyncio.create_task(gate.enter(live(3)))
    await asyncio.sleep(0)
    await gate.fence(3, "cancelled")
    with pytest.raises(CallError, match="cancelled"):
        await entering
    assert gate.holder is None
    assert gate.fenced == 3


@pytest.mark.anyio
async def test_benches_are_cleaned_up_side_by_side_when_the_agent_stops(tmp_path: Path) -> None:
    class Slow(Bench):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        async def close_lease(self) -> None:
            closing.add(self.name)
            if len(closing) == 2:
                both.set()
            await asyncio.wait_for(both.wait(), 5)
            raise CleanUpError("the ECU is on fire")

    closing: set[str] = set()
    both = asyncio.Event()
    guard = Guard(
        [Slow("b"), Slow("c")], KeyRing(tmp_path / "keys.json"), EpochStore(tmp_path / "epochs.json"), LabClock()
    )
    for name, gate in guard.gates.items():
        gate.leave(await gate.enter(claims(1, bench=name, expires_at=int(time.time()) + 600)))
    await guard.close()
    assert closing == {"b", "c"}


@pytest.mark.anyio
async def test_a_tester_that_does_not_close_is_closed_by_the_next_clean_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stuck:
        ecu = SimpleNamespace(name="ECM")
        session = 1

        def __init__(self) -> None:
            self.closings = 0

        async def close(self) -> None:
            self.closings += 1
            if self.closings == 1:
                await asyncio.Event().wait()

    monkeypatch.setattr(tenancy_module, "_TESTER_CLOSE_S", 0.01)
    tenancy, tester = tenancy_module.Tenancy("lease-1", CleanUpStack()), Stuck()
    tenancy._testers["ECM"] = cast(Any, (None, tester))
    first = await tenancy.cleanup.run()
    assert [outcome.name for outcome in first if outcome.fault] == ["close the diagnostic sessions"]
    assert any("ECM did not close" in (outcome.fault or "") for outcome in first)
    second = await tenancy.cleanup.run()
    assert [(outcome.name, outcome.fault) for outcome in second] == [("close the diagnostic sessions", None)]
    assert tester.closings == 2

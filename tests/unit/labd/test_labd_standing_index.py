"""What is looked up in the lab's standing is what a look at everything would find."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from labd.model.bench import Bench
from labd.model.lease import LIVE, Lease, LeaseEnd, LeaseState, Wanted
from labd.store.standing import STANDING, Draft, Standing, standing_of

BENCHES = ("bench-1", "bench-2", "bench-3")
AGENTS = ("agent-1", "agent-2")


class Brute:
    """The same lab, as lists that are looked through."""

    def __init__(self) -> None:
        self.benches: dict[str, Bench] = {}
        self.leases: dict[str, Lease] = {}

    def copy(self) -> "Brute":
        copy = Brute()
        copy.benches, copy.leases = dict(self.benches), dict(self.leases)
        return copy

    def standing(self) -> list[Lease]:
        found = [lease for lease in self.leases.values() if lease.state in STANDING]
        return sorted(found, key=lambda lease: lease.seq)

    def live_on(self, bench: str) -> Lease | None:
        return next((one for one in self.standing() if (part := one.on(bench)) is not None and part.live), None)

    def due(self, now: float) -> list[Lease]:
        return [lease for lease in self.standing() if lease.state in LIVE and lease.overdue(now) is not None]


def _new_lease(seq: int, now: float, draw: st.DataObject) -> Lease:
    return Lease(
        id=f"l-{seq}",
        seq=seq,
        state=LeaseState.QUEUED,
        wanted=(Wanted("", draw.draw(st.integers(1, 2))),),
        holder="ada",
        duration_s=draw.draw(st.sampled_from((5.0, 50.0))),
        ttl_s=draw.draw(st.sampled_from((2.0, 20.0))),
        created_at=now,
        heartbeat_by=now + 3.0,
        held=draw.draw(st.booleans()),
        run_id=draw.draw(st.sampled_from((None, "r-1"))),
    )


def _moved(lease: Lease, brute: Brute, now: float, draw: st.DataObject) -> Lease:
    """Some next state that the rules allow."""
    if lease.state is LeaseState.ENDING:
        live = [one.bench for one in lease.benches if one.live]
        return lease.fenced(draw.draw(st.sampled_from(live)), now)
    move = draw.draw(st.sampled_from(("heartbeat", "end", "grant", "notify", "extend", "transfer")))
    if move == "end":
        return lease.end(LeaseEnd.RELEASED, now)
    if lease.state is LeaseState.QUEUED:
        free = [name for name in BENCHES if brute.live_on(name) is None]
        if move != "grant" or len(free) < len(lease.parts):
            return lease.heartbeat(now)
        return lease.grant([(name, 1) for name in free[: len(lease.parts)]], now)
    if move == "notify":
        return lease.notify(now + 4.0, "needed")
    if move == "extend":
        return lease.extend(now + 60.0, now)
    if move == "transfer":
        return lease.transfer("bob", "default", [one.epoch + 1 for one in lease.benches], now)
    return lease.heartbeat(now)


def _agree(standing: Standing, brute: Brute, now: float) -> None:
    assert dict(standing.benches) == brute.benches
    assert list(standing.benches) == sorted(brute.benches)
    for name in BENCHES:
        assert standing.live_on(name) == brute.live_on(name)
    for agent in AGENTS:
        expected = [bench for _, bench in sorted(brute.benches.items()) if bench.agent == agent]
        assert standing.benches_of(agent) == expected
    for state in STANDING:
        assert standing.leases_in((state,)) == [one for one in brute.standing() if one.state is state]
    assert standing.leases_in(STANDING) == brute.standing()
    assert list(standing.queue()) == standing.leases_in((LeaseState.QUEUED,))
    for lease_id, lease in brute.leases.items():
        assert standing.lease(lease_id) == (None if lease.state is LeaseState.ENDED else lease)
    assert standing.due(now) == brute.due(now)
    at = standing.next_due(now)
    assert at is None or at <= now or brute.due(at - 1e-6) == []
    nobody_ever = not brute.due(now + 1e6)
    assert (at is None) <= nobody_ever, "there is something to look at later"
    assert at is None or brute.due(now) == [] or at <= now


@given(st.data())
def test_the_index_agrees_with_a_look_at_everything(draw: st.DataObject) -> None:
    now, arrived, brute, standing = 1000.0, 0, Brute(), Standing()
    past: list[tuple[Standing, Brute, float]] = []
    for _ in range(draw.draw(st.integers(1, 12))):
        now += draw.draw(st.sampled_from((0.0, 0.5, 3.0)))
        draft = Draft(standing)
        for _ in range(draw.draw(st.integers(1, 3))):
            standings = brute.standing()
            match draw.draw(st.sampled_from(("bench", "lease", "move", "look"))):
                case "bench":
                    name, agent = draw.draw(st.sampled_from(BENCHES)), draw.draw(st.sampled_from(AGENTS))
                    bench = Bench(name, agent, "here:1", {}, draw.draw(st.booleans()), "")
                    brute.benches[name] = bench
                    draft.put_bench(bench)
                case "lease":
                    arrived += 1
                    lease = _new_lease(arrived, now, draw)
                    brute.leases[lease.id] = lease
                    draft.put_lease(lease)
                case "move" if standings:
                    lease = _moved(draw.draw(st.sampled_from(standings)), brute, now, draw)
                    brute.leases[lease.id] = lease
                    draft.put_lease(lease)
                case _:
                    assert draft.due(now) == brute.due(now)
        _agree(draft, brute, now)
        if draw.draw(st.booleans()):
            past.append((draft, brute.copy(), now))
            standing = draft
        else:  # undone
            brute = past[-1][1].copy() if past else Brute()
        now = max(now, past[-1][2] if past else now)
    for former, then, at in past:
        _agree(former, then, at)
    if past:
        last, then, at = past[-1]
        stored = standing_of(
            last.version, then.benches.values(), then.standing(), [], {}, last.policy, last.usage, arrived
        )
        assert stored.version == last.version
        _agree(stored, then, at)


def test_a_lease_that_beats_late_is_not_due_before_its_deadline() -> None:
    lease = Lease("l-1", 1, LeaseState.QUEUED, (Wanted(""),), "ada", 60.0, 30.0, 0.0, 30.0)
    first = Draft(Standing())
    first.put_lease(lease)
    second = Draft(first)
    second.put_lease(replace(lease, heartbeat_by=55.0))
    assert second.due(40.0) == []
    assert second.next_due(40.0) == 55.0
    assert first.due(40.0) == [lease], "what was is as it was"
    assert second.due(55.0) == [replace(lease, heartbeat_by=55.0)]

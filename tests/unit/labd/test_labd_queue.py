from hypothesis import given
from hypothesis import strategies as st

from labd.model.lease import Lease, LeaseState, Wanted
from labd.model.policy import Policy
from labd.model.selector import parse
from labd.scheduling.queue import FreeBench, decide, ordered

LABELS = ("a", "b", "c")
POLICY = Policy()


def _lease(seq: int, selector: str, priority: str = "normal") -> Lease:
    return Lease(
        f"l-{seq}", seq, LeaseState.QUEUED, (Wanted(selector),), "ada", 60.0, 30.0, 0.0, 30.0, priority=priority
    )


leases = st.lists(
    st.tuples(st.sampled_from(["", "a", "b", "!a", "a,b", "c in (x)"]), st.sampled_from(["low", "normal", "high"])),
    max_size=8,
).map(lambda found: [_lease(seq, *wish) for seq, wish in enumerate(found, start=1)])
benches = st.lists(st.sets(st.sampled_from(LABELS)), max_size=5).map(
    lambda found: [FreeBench(f"bench-{n}", dict.fromkeys(labels, "x")) for n, labels in enumerate(found)]
)


@given(leases, benches, st.randoms())
def test_grants_fit_and_nobody_who_could_be_served_is_passed_over(queue, free, random) -> None:  # type: ignore[no-untyped-def]
    shuffled = list(queue)
    random.shuffle(shuffled)
    grants = decide(shuffled, free, POLICY)
    assert grants == decide(queue, free, POLICY), "the order of arrival counts, not that of the argument"
    labels = {bench.name: bench.labels for bench in free}
    wishes = {lease.id: parse(lease.selector) for lease in queue}
    assert len({grant.benches[0] for grant in grants}) == len(grants) == len({grant.lease_id for grant in grants})
    assert all(wishes[grant.lease_id].matches(labels[grant.benches[0]]) for grant in grants)
    taken: set[str] = set()
    granted = {grant.lease_id: grant.benches[0] for grant in grants}
    for lease in ordered(queue, POLICY):
        could = {name for name in labels if wishes[lease.id].matches(labels[name])} - taken
        assert (lease.id in granted) == bool(could)
        if lease.id in granted:
            taken.add(granted[lease.id])


def test_priority_goes_before_arrival() -> None:
    queue = [_lease(1, ""), _lease(2, "", "high"), _lease(3, "", "high")]
    assert [grant.lease_id for grant in decide(queue, [FreeBench("bench-1", {})], POLICY)] == ["l-2"]


def test_a_modest_wish_leaves_the_bench_that_somebody_else_needs() -> None:
    free = [FreeBench("bench-1", {"a": "x"}), FreeBench("bench-2", {})]
    grants = decide([_lease(1, ""), _lease(2, "a")], free, POLICY)
    assert [(grant.lease_id, grant.benches[0]) for grant in grants] == [("l-1", "bench-2"), ("l-2", "bench-1")]

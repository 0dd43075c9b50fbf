"""Judges what holders and agents have seen of the lab; tested on made-up journals that break each promise."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from tests.chaos.journal import Event
from tests.holders import holdings

ORDER = {"QUEUED": 0, "GRANTED": 1, "ACTIVE": 2, "ENDING": 3, "ENDED": 4}
REMAINING_TOLERANCE_S = 2.0
"""How far the hard end may move from one answer to another: the answers are stamped by the reader."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken."""

    promise: str
    detail: str


@dataclass(frozen=True, slots=True)
class Final:
    """What has become of a lease in the end."""

    state: str
    reason: str | None = None
    """Why it ended."""


def judge_logs(folders: Iterable[Path]) -> list[Violation]:
    """What the agents wrote down themselves, each in its data directory, of who had which bench when."""
    violations = []
    for folder in folders:
        try:
            holdings(folder)
        except AssertionError as found:
            violations.append(Violation("one holder at a time", f"the agent's log in {folder} says: {found}"))
    return violations


def judge(events: Iterable[Event], final: Mapping[str, Final]) -> list[Violation]:
    """All violations. ``final`` has every lease that labd knows at the end, by its ID."""
    ordered = sorted(events, key=lambda event: event.ended)
    by_lease: dict[str, list[Event]] = defaultdict(list)
    for event in ordered:
        if event.lease is not None:
            by_lease[event.lease].append(event)
    return [
        *_kept(by_lease, final),
        *_never_back(by_lease),
        *_remaining(by_lease, final),
        *_place_kept(by_lease),
        *_in_order(by_lease),
        *_one_holder(ordered),
        *_nobody_waits(final),
    ]


def _kept(by_lease: Mapping[str, Sequence[Event]], final: Mapping[str, Final]) -> Iterable[Violation]:
    for lease, events in by_lease.items():
        acknowledged = [event for event in events if event.ok and event.op != "call"]
        if acknowledged and lease not in final:
            yield Violation("what was acknowledged is kept", f"labd no longer knows lease {lease}")
        released = any(event.op == "release" for event in acknowledged)
        if released and lease in final and final[lease].state not in ("ENDING", "ENDED"):
            yield Violation("what was acknowledged is kept", f"lease {lease} was released, and is {final[lease].state}")


def _never_back(by_lease: Mapping[str, Sequence[Event]]) -> Iterable[Violation]:
    for lease, events in by_lease.items():
        seen = [event for event in events if event.ok and event.state is not None]
        for former, later in pairwise(seen):
            # Answers that cross on the way say nothing of their order.
            if later.began >= former.ended and ORDER[str(later.state)] < ORDER[str(former.state)]:
                yield Violation("a lease never goes back", f"{lease} was {former.state}, then {later.state}")
        epochs = {(event.bench, event.epoch) for event in seen if event.bench is not None}
        if len(epochs) > 1:
            yield Violation("a lease never goes back", f"{lease} changed its bench: {sorted(map(str, epochs))}")


def _remaining(by_lease: Mapping[str, Sequence[Event]], final: Mapping[str, Final]) -> Iterable[Violation]:
    over = max((event.ended for events in by_lease.values() for event in events), default=0.0)
    for lease, events in by_lease.items():
        ends = [event.ended + event.remaining_s for event in events if event.ok and event.remaining_s is not None]
        if ends and max(ends) - min(ends) > REMAINING_TOLERANCE_S:
            moved = max(ends) - min(ends)
            yield Violation("the remaining time is kept", f"the hard end of {lease} moved by {moved:.1f} s")
        if ends and lease in final and final[lease].reason == "expired" and min(ends) > over + REMAINING_TOLERANCE_S:
            yield Violation("the remaining time is kept", f"{lease} expired before its time")


def _place_kept(by_lease: Mapping[str, Sequence[Event]]) -> Iterable[Violation]:
    """All ask with the same rights, so that nobody gets ahead of one who waits."""
    for lease, events in by_lease.items():
        places = [event for event in events if event.ok and event.position is not None]
        for former, later in pairwise(places):
            if later.began >= former.ended and (later.position or 0) > (former.position or 0):
                detail = f"{lease} was at place {former.position}, then at {later.position}"
                yield Violation("the queue keeps its order", detail)


@dataclass(frozen=True, slots=True)
class _Served:
    """A lease that got its bench, as far as its holder can tell when."""

    asked: float
    acknowledged: float
    last_waited: float
    """It waited still when this was asked."""
    known: float
    """It was served when this was answered."""
    lease: str


def _in_order(by_lease: Mapping[str, Sequence[Event]]) -> Iterable[Violation]:
    """Of two leases of a group, one acknowledged before the other was asked for, the first is served first."""
    groups: dict[str, list[_Served]] = defaultdict(list)
    for lease, events in by_lease.items():
        created = next((event for event in events if event.op == "create" and event.ok), None)
        served = next((event for event in events if event.ok and event.state in ("GRANTED", "ACTIVE")), None)
        if created is not None and served is not None:
            asked = created.began if created.asked is None else created.asked
            waited = max((e.began for e in events if e.ok and e.state == "QUEUED"), default=asked)
            groups[created.group].append(_Served(asked, created.ended, waited, served.ended, lease))
    for members in groups.values():
        members.sort(key=lambda member: member.asked)
        for position, first in enumerate(members):
            for second in members[position + 1 :]:
                if second.asked > first.acknowledged and second.known < first.last_waited:
                    detail = f"{second.lease} was served while {first.lease} still waited"
                    yield Violation("the queue keeps its order", detail)


def _one_holder(ordered: Sequence[Event]) -> Iterable[Violation]:
    """Accepted calls of an older epoch never begin after one of a newer epoch has ended."""
    calls: dict[str, list[Event]] = defaultdict(list)
    for event in ordered:
        if event.op == "call" and event.ok and event.bench is not None and event.epoch is not None:
            calls[event.bench].append(event)
    for bench, accepted in calls.items():
        newest, ended, holders = -1, 0.0, dict[int, str]()
        for call in accepted:
            epoch, lease = call.epoch or 0, str(call.lease)
            if epoch < newest and call.began > ended:
                yield Violation("one holder at a time", f"{bench}: epoch {epoch} acted after epoch {newest} had")
            if epoch > newest:
                newest, ended = epoch, call.ended
            if holders.setdefault(epoch, lease) != lease:
                yield Violation("one holder at a time", f"{bench}: {lease} and {holders[epoch]} share epoch {epoch}")


def _nobody_waits(final: Mapping[str, Final]) -> Iterable[Violation]:
    for lease, end in final.items():
        if end.state != "ENDED":
            yield Violation("nothing waits for ever", f"lease {lease} is {end.state} after all is over")

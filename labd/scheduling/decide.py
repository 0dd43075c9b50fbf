"""One decision pass: who gets which benches now.

The interface for whoever keeps the leases::

    decision = decide(Lab(now, benches, wishes, held, used), rules)

- ``wishes``: every QUEUED lease as a ``Wish``; a booking has ``starts_at`` and, once ``booking.book`` took it,
  ``booked``.
- ``held``: every GRANTED, ACTIVE or ENDING lease as a ``Held``, with its hard end.
- ``benches``: all that are known, with why they cannot be used, if they cannot.

To do afterwards, all in the transaction that read the lab: make each of ``decision.grants`` a lease on its benches
until ``ends_at``; give the leases in ``notices`` notice until ``revoke_at``, and remember for their benches to which
wish they are promised (``Bench.promised_to``); save the benches of ``moves``; end what ``lapsed``. The same input gives
the same decision, in whatever order it comes. Decide anew whenever something in the lab changes, when a booking starts,
and from time to time, because waiting changes the order.
"""

from collections.abc import Container, Iterable, Sequence

from labd.scheduling.candidates import Candidates
from labd.scheduling.decisions import Decision, Grant, Move, Notice, Reservation
from labd.scheduling.lab import Held, Lab
from labd.scheduling.limits import LimitReached, Limits
from labd.scheduling.matching import Fleet, Preference
from labd.scheduling.ordering import aged, in_order, recent_use
from labd.scheduling.placing import Placing
from labd.scheduling.preemption import fewest, preemptible
from labd.scheduling.quotas import Quotas, Shortfall
from labd.scheduling.rebooking import Rebooking
from labd.scheduling.rules import Rules
from labd.scheduling.timeline import Stay, Timeline
from labd.scheduling.wish import Wish

RESERVATIONS = 16
"""So many of those who waited longest have benches held for them at once; the next when one of them is served."""


def decide(lab: Lab, rules: Rules) -> Decision:
    """What to do now. Raises SelectorError for a wish whose selector is none, KeyError for an unknown class."""
    return Pass(lab, rules).decide()


class Pass:
    """The state of one pass. ``timeline`` and ``quotas`` know afterwards what the pass has decided."""

    def __init__(self, lab: Lab, rules: Rules) -> None:
        self.lab = lab
        self.rules = rules
        self.fleet = Fleet(lab.benches)
        self.quotas = Quotas(lab, rules)
        self.limits = Limits(rules.limits, (held.limits for held in lab.held if not held.ending))
        self._promised = self._entitled()
        self.candidates = Candidates(lab, self.fleet, self._promised)
        self.timeline = Timeline(lab, self.fleet, rules)
        self.order = in_order(lab.wishes, rules, lab.now, recent_use(lab, rules))
        self._unclean = self.fleet.where(not bench.clean for bench in self.fleet.benches)
        free = self.fleet.everything & ~self.fleet.named(lab.holders) & ~self._unclean
        self.preference = Preference(self.fleet, lab.demand, free)
        self._placing = self.candidates.placing(free & self.fleet.usable, self.preference)
        self._ends: dict[str, float] = {}
        self._reservations: list[Reservation] = []
        self._benches_of: dict[str, int] = {}
        """Of leases that may be preempted."""

    def decide(self) -> Decision:
        """What to do now. To be called once."""
        now = self.lab.now
        lapsed = [
            wish.id for wish in self.order if wish.starts_at is not None and wish.starts_at + wish.duration_s <= now
        ]
        moves, stranded = self._rebook()
        moved = {move.wish: move.benches for move in moves}
        unserved: list[Wish] = []
        over_quota: dict[str, Shortfall] = {}
        at_limit: dict[str, LimitReached] = {}
        in_vain: set[object] = set()
        in_reach = self.candidates.in_reach(self.lab.demand, self._placing.started_with)
        limited = {team for team in self.lab.teams if self.quotas.limits(team)}
        for wish in self.order:
            if wish.starts_at is not None:
                if wish.id not in lapsed and wish.id not in stranded:
                    self._start_booking(wish, moved.get(wish.id, wish.booked))
                continue
            ends_at = now + wish.duration_s
            reached = self.limits.reached(wish.limits)
            if reached is not None:
                at_limit[wish.id] = reached
                continue
            if wish.team in limited:
                shortfall = self.quotas.shortfall(wish.team, wish.count, now, ends_at)
                if shortfall is not None:
                    over_quota[wish.id] = shortfall
                    continue
            if self._placing.free and wish.parts[0].selector in in_reach:
                shape = self.candidates.shape(wish)
                if shape not in in_vain:
                    if self.candidates.place(wish, self._placing, self.timeline.allowed(ends_at)):
                        self._serve(wish, ends_at)
                        continue
                    in_vain.add(shape)
            if len(self._reservations) < RESERVATIONS and self._held_for(wish):
                self._reserve(wish)
            unserved.append(wish)
        notices = self._preempt(unserved)
        got = self._placing.benches()
        return Decision(
            grants=tuple(Grant(wish, self._names(got[wish]), ends_at) for wish, ends_at in self._ends.items()),
            notices=tuple(notices),
            moves=tuple(moves),
            stranded=tuple(stranded),
            lapsed=tuple(lapsed),
            reservations=tuple(self._reservations),
            over_quota=over_quota,
            at_limit=at_limit,
        )

    def _entitled(self) -> set[str]:
        """The wishes to which a bench is promised, and which would not wait for quota or limit all the same."""
        promised = {bench.promised_to for bench in self.lab.benches if bench.promised_to is not None}
        if not promised:
            return promised
        now = self.lab.now
        return {
            wish.id
            for wish in self.lab.wishes
            if wish.id in promised
            and self.limits.reached(wish.limits) is None
            and not self.quotas.shortfall(wish.team, wish.count, now, now + wish.duration_s)
        }

    def _serve(self, wish: Wish, ends_at: float) -> None:
        self._ends[wish.id] = ends_at
        self.limits.take(wish.limits)
        if wish.starts_at is None:
            self.quotas.charge(wish.team, wish.count, self.lab.now, ends_at)

    def _rebook(self) -> tuple[list[Move], list[str]]:
        if not self.lab.bookings:
            return [], []
        return Rebooking(self.lab, self.fleet, self.timeline, self.candidates, self.find).rebook()

    def settle(self) -> None:
        """Decides, and enters all of it into the timeline: what follows can be asked about it."""
        self.decide()
        self._note_grants()
        self.candidates.forget_promises()  # they are in the timeline now, with their time

    def find(self, wish: Wish) -> tuple[str, ...] | None:
        """Benches for a booking that are free for the whole of it (what is left of it, once its time has come)."""
        if wish.starts_at is None or wish.ends_at is None:
            return None
        free = self.timeline.free(max(wish.starts_at, self.lab.now), wish.ends_at)
        return self._choose(wish, free)

    def _choose(self, wish: Wish, free: int) -> tuple[str, ...] | None:
        placing = self.candidates.placing(free & self.fleet.usable, self.preference)
        if not self.candidates.place(wish, placing, free):
            return None
        return self._names(placing.benches()[wish.id])

    def _start_booking(self, wish: Wish, benches: Sequence[str]) -> None:
        """It gets the benches that it booked as soon as they are free: until then nobody else does."""
        if wish.ends_at is not None and self.candidates.place_on(wish, self._placing, benches):
            self._serve(wish, wish.ends_at)

    def _note_grants(self) -> None:
        """Puts the grants so far into the timeline, and leaves them where they are."""
        granted = self._placing.unsettled()
        for number, seat in granted:
            self.timeline.occupy(number, Stay(self.lab.now, self._ends[seat.wish], seat.wish))
        self._placing.settle()

    def _held_for(self, wish: Wish) -> bool:
        return wish.id in self._promised or aged(wish, self.rules, self.lab.now)

    def _reserve(self, wish: Wish) -> None:
        """Holds the benches with which the wish can be served first. What is placed so far stays where it is."""
        self._note_grants()
        found = self.timeline.earliest(wish, self.candidates, self.lab.now)
        if found is None:
            return
        starts_at, free = found
        benches = self._choose(wish, free)
        if benches is not None:
            self.timeline.add(benches, Stay(starts_at, starts_at + wish.duration_s, wish.id))
            self._reservations.append(Reservation(wish.id, benches, starts_at))

    def _preempt(self, unserved: Iterable[Wish]) -> list[Notice]:
        """Notices for the wishes that may have others' benches, in their order."""
        classes = {one.name for one in self.rules.classes if one.preempts}
        reserved = {one.wish for one in self._reservations}
        entitled = [wish for wish in unserved if wish.priority in classes]
        if not entitled:
            return []
        revoke_at = self.lab.now + self.rules.grace_s
        soon = self._unclean | self.fleet.named(
            bench for held in self.lab.held if held.ending or held.gone_at <= revoke_at for bench in held.benches
        )
        coming = self.candidates.placing(self._placing.free | soon & self.fleet.usable, self.preference)
        lower: dict[str, list[Held]] = {}
        noticed: set[str] = set()
        notices: list[Notice] = []
        for wish in entitled:
            ends_at = revoke_at + wish.duration_s
            allowed = (
                self.timeline.unclaimed(ends_at, wish.id) if wish.id in reserved else self.timeline.allowed(ends_at)
            )
            if self.candidates.place(wish, coming, allowed):
                continue
            if wish.priority not in lower:
                lower[wish.priority] = preemptible(self.lab, self.rules, wish.priority)
                self._benches_of |= {held.id: self.fleet.named(held.benches) for held in lower[wish.priority]}
            victims = self._useful(wish, allowed, lower[wish.priority], noticed)
            chosen = self._victims(wish, coming, allowed, victims)
            if chosen:
                noticed.update(held.id for held in chosen)
                coming.add(self._benches(chosen) & self.fleet.usable)
                self.candidates.place(wish, coming, allowed)
                notices.extend(Notice(held.id, wish.id, revoke_at, held.benches) for held in chosen)
        return notices

    def _useful(self, wish: Wish, allowed: int, victims: Sequence[Held], noticed: Container[str]) -> list[Held]:
        """The victims that have a bench that the wish may have, and keep it so far."""
        wanted = self.candidates.wanted(wish) & allowed
        benches_of = self._benches_of
        return [held for held in victims if benches_of[held.id] & wanted and held.id not in noticed]

    def _victims(self, wish: Wish, coming: Placing, allowed: int, useful: Sequence[Held]) -> Sequence[Held] | None:
        return fewest(
            useful,
            wish.count,
            lambda trial: self.candidates.fit(wish, (coming.free | self._benches(trial)) & allowed),
        )

    def _benches(self, leases: Iterable[Held]) -> int:
        mask = 0
        for held in leases:
            mask |= self._benches_of[held.id]
        return mask

    def _names(self, numbers: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.fleet.names[number] for number in numbers)

"""The audit log: who did what, when, to what, and why; chained by hashes, so that no row can be changed unseen.

Each entry carries the SHA-256 of its own canonical encoding, the hash of the entry before it included. The head of the
chain is kept beside the log, so that rows cut off at the end are missed too. What retention removes from the beginning
is vouched for by a checkpoint, which an entry of the chain itself confirms; what it removes of a team's alone leaves
gaps, which an entry of the chain lists.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from json.encoder import encode_basestring
from typing import Any

GENESIS = "0" * 64
"""What the first entry names as the hash before it."""
PRUNED = "audit.pruned"
"""The action of the entry that confirms a checkpoint: its ``after`` has the checkpoint's ``seq`` and ``hash``; or gaps:
then it has them as ``gaps``, a list of ``[first, last, previous]``.
"""


@dataclass(frozen=True, slots=True)
class Deed:
    """Something that somebody did. ``time`` is in seconds since the Unix epoch on labd's clock."""

    time: float
    actor: str
    kind: str
    """Of the actor: person, program, run, agent, system."""
    team: str
    """Whose thing it was done to; empty where it concerns the whole lab."""
    action: str
    """``noun.verb``, such as ``lease.granted``."""
    subject: str
    """``kind/name``, such as ``lease/l-5f3a9c01d2e4``."""
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """A place in the chain: the entry with this number has this hash."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True)
class Gap:
    """Entries that retention has removed, from number ``first`` to ``last``."""

    first: int
    last: int
    previous: str
    """Hash of the entry before them."""


START = Head(0, GENESIS)
"""Before the first entry."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A deed in its place in the chain."""

    seq: int
    """From 1, without gaps."""
    deed: Deed
    previous: str
    """Hash of the entry before."""
    hash: str

    @property
    def head(self) -> Head:
        """This entry as a place in the chain."""
        return Head(self.seq, self.hash)

    @property
    def record(self) -> dict[str, Any]:
        """The members of the JSON object that is exported: those that are hashed, and ``hash`` itself."""
        return {**_hashed(self.seq, self.deed, self.previous), "hash": self.hash}


def link(head: Head, deeds: Iterable[Deed]) -> list[Entry]:
    """The deeds as the entries that follow ``head``."""
    entries = []
    for deed in deeds:
        digest = _digest(head.seq + 1, deed, head.hash)
        entries.append(Entry(head.seq + 1, deed, head.hash, digest))
        head = entries[-1].head
    return entries


def gaps_in(removed: Iterable[Entry]) -> list[Gap]:
    """What the removal of these entries leaves behind, in their order."""
    gaps: list[Gap] = []
    for entry in removed:
        if gaps and gaps[-1].last == entry.seq - 1:
            gaps[-1] = replace(gaps[-1], last=entry.seq)
        else:
            gaps.append(Gap(entry.seq, entry.seq, entry.previous))
    return gaps


def gaps_told(deed: Deed) -> list[Gap]:
    """The gaps that an entry lists; none of one that was altered beyond reading, which its hash tells."""
    told = (deed.after or {}).get("gaps", []) if deed.action == PRUNED else []
    try:
        return [Gap(int(first), int(last), str(previous)) for first, last, previous in told]
    except (TypeError, ValueError):
        return []


class Fault(StrEnum):
    """What is wrong with a chain."""

    ALTERED = "altered"
    REMOVED = "removed"
    INSERTED = "inserted"
    CUT_OFF = "cut off"


class ChainBroken(Exception):
    """The log is not what was written; ``seq`` is the first entry concerned."""

    def __init__(self, fault: Fault, seq: int, detail: str) -> None:
        super().__init__(detail)
        self.fault = fault
        self.seq = seq


class Verifier:
    """Takes the entries of a log in the order of their numbers; `finish` says that all are there."""

    def __init__(
        self, head: Head | None, checkpoint: Head | None = None, *expected: Head, gaps: Iterable[Gap] = ()
    ) -> None:
        """``head`` is the one kept beside the log, ``checkpoint`` the last that retention left.

        ``expected`` are places that somebody wrote down outside of the database: they find a log that was written anew
        as a whole, or cut off, head and all. ``gaps`` are those that entries of the log itself list: `take` has yet to
        find these sound.
        """
        self._gaps = {gap.first: gap for gap in gaps}
        self._head = head
        self._checkpoint = checkpoint
        self._expected = {(one.seq, one.hash) for one in expected}
        self._expected_end = max((one.seq for one in expected), default=0)
        self._last = checkpoint or START
        self._confirmed = checkpoint is None
        self._doubtful: Entry | None = None
        """Is sound in itself, but does not follow the entry before it: one of the two was altered."""
        self.checked = 0

    def take(self, entry: Entry) -> None:
        """The next entry. Raises ChainBroken."""
        while self._last.seq + 1 < entry.seq and (gap := self._gaps.get(self._last.seq + 1)) is not None:
            self._leap(gap)
        wanted = self._last.seq + 1
        if entry.seq < wanted:
            raise ChainBroken(
                Fault.INSERTED, entry.seq, f"entry {entry.seq} was inserted: the log goes on at {wanted} here"
            )
        if entry.seq > wanted:
            raise ChainBroken(Fault.REMOVED, wanted, f"{_entries(wanted, entry.seq - 1)} removed")
        if entry.hash != _digest(entry.seq, entry.deed, entry.previous):
            raise ChainBroken(Fault.ALTERED, entry.seq, f"entry {entry.seq} was altered: its hash is that of another")
        if self._last.hash == _REMOVED:
            self._last = Head(self._last.seq, entry.previous)
        self._decide(entry.previous)
        if entry.previous != self._last.hash:
            self._doubtful = entry
        if self._head is not None and entry.seq > self._head.seq:
            raise ChainBroken(
                Fault.INSERTED, entry.seq, f"entry {entry.seq} was inserted: the chain ends at {self._head.seq}"
            )
        if any(seq == entry.seq and digest != entry.hash for seq, digest in self._expected):
            raise ChainBroken(
                Fault.ALTERED, entry.seq, f"entry {entry.seq} is not the expected one: the log was written anew"
            )
        if entry.deed.action == PRUNED and self._checkpoint is not None:
            after = entry.deed.after or {}
            if (after.get("seq"), after.get("hash")) == (self._checkpoint.seq, self._checkpoint.hash):
                self._confirmed = True
        self._last = entry.head
        self.checked += 1

    def finish(self) -> Head:
        """There are no more entries. Returns the end of the sound chain; raises ChainBroken."""
        if self._head is None:
            raise ChainBroken(Fault.CUT_OFF, self._last.seq + 1, "the head of the chain is missing")
        self._decide(self._head.hash)
        if self._last.seq < self._head.seq:
            first = self._last.seq + 1
            raise ChainBroken(Fault.CUT_OFF, first, f"{_entries(first, self._head.seq)} cut off at the end of the log")
        if self._last.hash != self._head.hash:
            raise ChainBroken(
                Fault.ALTERED, self._last.seq, f"entry {self._last.seq} was altered: the head of the chain has another"
            )
        if not self._confirmed and self._checkpoint is not None:
            raise ChainBroken(
                Fault.REMOVED, 1, f"{_entries(1, self._checkpoint.seq)} removed, and not by retention: no entry says so"
            )
        if self._expected_end > self._last.seq:
            first = self._last.seq + 1
            raise ChainBroken(
                Fault.CUT_OFF,
                first,
                f"{_entries(first, self._expected_end)} cut off: entry {self._expected_end} was expected",
            )
        return self._last

    def _leap(self, gap: Gap) -> None:
        """Over entries that retention has removed: the one before them must be there, the last one's hash is gone."""
        if self._last.hash != _REMOVED:
            self._decide(gap.previous)
            if gap.previous != self._last.hash:
                seq = self._last.seq
                raise ChainBroken(
                    Fault.ALTERED,
                    seq,
                    f"entry {seq} was altered, and its hash with it: retention knew another after it",
                )
        self._last = Head(max(gap.last, gap.first), _REMOVED)

    def _decide(self, following: str) -> None:
        """Whether the doubtful entry or the one before it was altered: the one that follows knows the true one."""
        if self._doubtful is None:
            return
        seq = self._last.seq if following != self._last.hash else self._last.seq - 1
        checkpoint = 0 if self._checkpoint is None else self._checkpoint.seq
        if seq <= checkpoint:
            seq = self._last.seq
        raise ChainBroken(Fault.ALTERED, seq, f"entry {seq} was altered, and its hash with it: its neighbours disagree")


_REMOVED = ""
"""In place of the hash of an entry that is not there any more."""


def _entries(first: int, last: int) -> str:
    return f"entry {first} was" if first == last else f"entries {first} to {last} were"


def _hashed(seq: int, deed: Deed, previous: str) -> dict[str, Any]:
    return {
        "seq": seq,
        "time": deed.time,
        "actor": deed.actor,
        "kind": deed.kind,
        "team": deed.team,
        "action": deed.action,
        "subject": deed.subject,
        "before": deed.before,
        "after": deed.after,
        "why": deed.why,
        "previous": previous,
    }


def _digest(seq: int, deed: Deed, previous: str) -> str:
    return hashlib.sha256(canonical(_hashed(seq, deed, previous)).encode("utf-8")).hexdigest()


_CONSTANTS = {None: "null", True: "true", False: "false"}


def canonical(value: Any) -> str:
    """A JSON value as RFC 8785 (JCS) writes it: one text for one value, in any language.

    Raises TypeError for what is no JSON value, ValueError for numbers that JSON has not. Halves of a surrogate pair,
    which no UTF-8 text can have, become question marks.
    """
    match value:
        case None | True | False:
            return _CONSTANTS[value]
        case str():
            return encode_basestring(value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8"))
        case int():
            return str(int(value))
        case float():
            return _number(value)
        case Mapping():
            names = sorted(value, key=lambda name: str(name).encode("utf-16-be", "replace"))
            return "{" + ",".join(f"{canonical(str(name))}:{canonical(value[name])}" for name in names) + "}"
        case Sequence() if not isinstance(value, bytes):
            return "[" + ",".join(canonical(item) for item in value) + "]"
    raise TypeError(f"{type(value).__name__} is no JSON value: {value!r}")


def _number(value: float) -> str:
    """As ECMAScript writes it (RFC 8785, 3.2.2.3): the shortest digits, exponents beyond 1e-6 and 1e21 only."""
    if value == 0:
        return "0"
    number = Decimal(repr(value))
    if not number.is_finite():
        raise ValueError(f"{value} is no JSON number")
    number = number.normalize()
    sign, digits, exponent = number.as_tuple()
    point = len(digits) + int(exponent)
    if -6 < point <= 21:
        return f"{number:f}"
    text = "".join(map(str, digits))
    mantissa = text if len(text) == 1 else f"{text[0]}.{text[1:]}"
    return f"{'-' if sign else ''}{mantissa}e{'+' if point > 0 else '-'}{abs(point - 1)}"

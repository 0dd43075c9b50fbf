"""The audit log, read and verified. It is written by `Ledger.audit`, with what it records."""

import threading
from dataclasses import dataclass

import structlog

from labd.model.audit import ChainBroken, Entry, Fault, Head, Verifier
from labd.services.anchor import Anchor
from labd.services.core import Core
from labd.store.errors import StoreError
from labd.store.unit import Unit
from labd.store.units.audit import AuditFilter

ANCHORED_S = 1.0
"""How often the end of the log is written down apart from the database."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class AuditVerdict:
    """Whether the log is what was written."""

    checked: int
    """Entries that were sound, up to the fault if there is one."""
    head: Head | None
    """The end of a sound log: worth writing down elsewhere."""
    fault: Fault | None = None
    seq: int | None = None
    """The first entry that the fault concerns."""
    detail: str = ""


class Auditing:
    """What people ask of the audit log."""

    def __init__(self, core: Core, anchor: Anchor | None = None) -> None:
        """``anchor`` keeps the end of the log apart from the database."""
        self._core = core
        self._anchor = anchor
        self._warned = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="audit-anchor", daemon=True)

    def start(self) -> None:
        """Has the anchor follow the log."""
        if self._anchor is not None:
            self._thread.start()

    def stop(self) -> None:
        """Writes the end down a last time."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()
            self.anchor()

    def anchor(self) -> None:
        """Writes down how far the log goes, unless it is another than the one that was there. What cannot be read or
        written now, is at the next time.
        """
        if self._anchor is None:
            return
        try:
            with self._core.view() as unit:
                head = unit.audit_head()
                if head is None or head == self._anchor.head:
                    return
                sound = self._anchor.head is None or _goes_through(unit, self._anchor.head)
            if sound:
                self._anchor.keep(head)
            elif not self._warned:
                self._warned = True
                _log.error("the audit log was cut off or written anew: see labctl audit verify")
        except (OSError, StoreError) as error:
            _log.debug("the end of the audit log is not written down", reason=str(error))

    def _follow(self) -> None:
        while not self._stopping.wait(ANCHORED_S):
            self.anchor()

    def page(self, wanted: AuditFilter, *, after: int | None, limit: int, newest_first: bool) -> list[Entry]:
        """Up to ``limit`` entries beyond number ``after``, in the order asked for."""
        with self._core.view() as unit:
            return unit.audit_page(wanted, after=after, limit=limit, newest_first=newest_first)

    def verify(self, expected: Head | None = None) -> AuditVerdict:
        """Reads the whole log, as of one moment. ``expected`` is an end that was written down earlier."""
        # Before the log is read, which may only have grown since.
        known = [one for one in (expected, None if self._anchor is None else self._anchor.head) if one is not None]
        with self._core.view() as unit:
            verifier = Verifier(unit.audit_head(), unit.audit_checkpoint(), *known, gaps=unit.audit_gaps())
            try:
                for entry in unit.audit_entries():
                    verifier.take(entry)
                head = verifier.finish()
            except ChainBroken as broken:
                return AuditVerdict(verifier.checked, None, broken.fault, broken.seq, str(broken))
        return AuditVerdict(verifier.checked, head)


def _goes_through(unit: Unit, place: Head) -> bool:
    """Whether the log has this entry, or retention has removed it."""
    checkpoint = unit.audit_checkpoint()
    if place.seq <= (0 if checkpoint is None else checkpoint.seq):
        return True
    found = unit.audit_page(AuditFilter(), after=place.seq - 1, limit=1, newest_first=False)
    if found and found[0].seq == place.seq:
        return found[0].hash == place.hash
    return any(gap.first <= place.seq <= gap.last for gap in unit.audit_gaps())

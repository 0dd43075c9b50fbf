"""The audit log, read and verified. It is written by `Ledger.audit`, with what it records."""

from dataclasses import dataclass

from labd.model.audit import ChainBroken, Entry, Fault, Head, Verifier
from labd.services.core import Core
from labd.store.units.audit import AuditFilter


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

    def __init__(self, core: Core) -> None:
        self._core = core

    def page(self, wanted: AuditFilter, *, after: int | None, limit: int, newest_first: bool) -> list[Entry]:
        """Up to ``limit`` entries beyond number ``after``, in the order asked for."""
        with self._core.view() as unit:
            return unit.audit_page(wanted, after=after, limit=limit, newest_first=newest_first)

    def verify(self, expected: Head | None = None) -> AuditVerdict:
        """Reads the whole log, as of one moment. ``expected`` is an end that was written down earlier."""
        with self._core.view() as unit:
            verifier = Verifier(unit.audit_head(), unit.audit_checkpoint(), expected)
            try:
                for entry in unit.audit_entries():
                    verifier.take(entry)
                head = verifier.finish()
            except ChainBroken as broken:
                return AuditVerdict(verifier.checked, None, broken.fault, broken.seq, str(broken))
        return AuditVerdict(verifier.checked, head)

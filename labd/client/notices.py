"""Notice that labd wants a lease back: why, and how long its holder still has."""

from dataclasses import dataclass
from datetime import datetime

from labd.client.types import OVER, Lease


@dataclass(frozen=True, slots=True)
class RevokeNotice:
    """The lease ends at ``revoke_at``, whatever its holder does."""

    lease_id: str
    reason: str
    grace_s: float
    """From the answer that brought it until then; 0 when there is nothing left of it."""
    revoke_at: str
    """RFC 3339, on labd's clock."""

    def __str__(self) -> str:
        return f"labd takes lease {self.lease_id} back in {self.grace_s:.0f} s: {self.reason}"


def notice_of(lease: Lease) -> RevokeNotice | None:
    """The notice in labd's answer to a heartbeat; None where there is none, and once the lease is over.

    Reckoned by labd's clock alone: the answer's ``heartbeat_by`` is a TTL after labd's present time.
    """
    revoke_at = lease.get("revoke_at")
    if not revoke_at or lease["state"] in OVER:
        return None
    present = datetime.fromisoformat(lease["heartbeat_by"]).timestamp() - lease["ttl_s"]
    grace_s = max(0.0, datetime.fromisoformat(revoke_at).timestamp() - present)
    return RevokeNotice(lease["id"], lease["revoke_reason"] or "no reason was given", grace_s, revoke_at)


class Notices:
    """Tells each notice of a lease once, and again when it has come nearer."""

    def __init__(self) -> None:
        self._told: str | None = None

    def news(self, lease: Lease) -> RevokeNotice | None:
        """What the holder has not been told yet, in the answer to a heartbeat."""
        notice = notice_of(lease)
        if notice is None or notice.revoke_at == self._told:
            return None
        self._told = notice.revoke_at
        return notice

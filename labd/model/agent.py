"""Agents as labd admits them: by the certificate of their last enrolment."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent that was invited, and perhaps enrolled. Times are seconds since the Unix epoch."""

    name: str
    enrolment: int = 0
    """Counts its enrolments; certificates of former ones are refused. 0: it was invited only."""
    token_hash: str | None = None
    """SHA-256 (hexadecimal) of the one-time token that is out."""
    token_expires_at: float | None = None
    enrolled_at: float | None = None
    certificate_expires_at: float | None = None
    """Of the certificate that was issued last."""
    revoked_at: float | None = None
    revoked_by: str | None = None
    revoked_reason: str | None = None

    def invited(self, token_hash: str, expires_at: float) -> "Agent":
        """With a new one-time token; a former one that is still out is void."""
        return replace(self, token_hash=token_hash, token_expires_at=expires_at)

    def enrolled(self, now: float, certificate_expires_at: float) -> "Agent":
        """With its token used up, and former certificates void."""
        return replace(
            self,
            enrolment=self.enrolment + 1,
            token_hash=None,
            token_expires_at=None,
            enrolled_at=now,
            certificate_expires_at=certificate_expires_at,
            revoked_at=None,
            revoked_by=None,
            revoked_reason=None,
        )

    def renewed(self, certificate_expires_at: float) -> "Agent":
        """With a new certificate of the same enrolment."""
        return replace(self, certificate_expires_at=certificate_expires_at)

    def revoked(self, now: float, by: str, reason: str) -> "Agent":
        """With no right to anything, its token included."""
        return replace(
            self, token_hash=None, token_expires_at=None, revoked_at=now, revoked_by=by, revoked_reason=reason
        )

    def refusal(self, enrolment: int) -> str | None:
        """Why a certificate of this enrolment is not taken; None when it is."""
        if self.revoked_at is not None:
            return f"agent {self.name} was revoked by {self.revoked_by}: {self.revoked_reason}"
        if enrolment != self.enrolment:
            return f"agent {self.name} was enrolled anew since: this certificate is of a former enrolment"
        return None

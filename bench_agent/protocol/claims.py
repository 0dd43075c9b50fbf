"""The claims of a lease token, a JWT (RFC 7519) that labd signs with EdDSA (RFC 8037) and agents verify offline."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

ALGORITHM = "Ed25519"
"""The only accepted JWS algorithm (RFC 9864 name of EdDSA over Curve25519)."""
ISSUER = "labd"
BENCH_METADATA = "labd-bench"
"""gRPC metadata key that names the bench a call is for."""
PREPARING_METADATA = "labd-preparing"
"""gRPC trailing metadata key: the bench is being prepared for its new holder; the call was not carried out."""


_DEFAULTS = {"share": 0, "team": ""}  # of tokens by a labd that did not say yet


class Scope(StrEnum):
    """What a token allows on its bench. Each allows what those before it do."""

    OBSERVER = "observer"
    """To look on: methods that change nothing."""
    CO_DRIVER = "co-driver"
    """To act, for as long as the holder's lease lasts."""
    HOLDER = "bench"
    """Everything."""

    def allows(self, needed: "Scope") -> bool:
        """Whether it is at least ``needed``."""
        order = list(Scope)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class LeaseClaims:
    """Who may act on which bench, and until when."""

    lease: str
    bench: str
    epoch: int
    """Fencing number of the bench: the agent refuses any below the highest that it has seen."""
    holder: str
    """Who has the token: the lease's holder, or somebody with whom the lease is shared."""
    scope: Scope
    expires_at: int
    """Seconds since the Unix epoch, on labd's clock."""
    share: int = 0
    """Of somebody with whom the lease is shared: how often it was shared with them before."""
    team: str = ""
    """The lease's: whose the traces are."""

    def to_jwt(self) -> dict[str, Any]:
        """The JWT claim set."""
        return {
            "iss": ISSUER,
            "sub": self.lease,
            "aud": self.bench,
            "epoch": self.epoch,
            "holder": self.holder,
            "scope": self.scope.value,
            "exp": self.expires_at,
            "share": self.share,
            "team": self.team,
        }

    @classmethod
    def from_jwt(cls, claims: dict[str, Any]) -> "LeaseClaims":
        """Raises ValueError, naming the claim, when one is missing, of the wrong type, or not labd's."""
        if claims.get("iss") != ISSUER:
            raise ValueError(f"claim iss is {claims.get('iss')!r}, not {ISSUER!r}")
        fields: dict[str, Any] = {}
        for claim, field, kind in (
            ("sub", "lease", str),
            ("aud", "bench", str),
            ("epoch", "epoch", int),
            ("holder", "holder", str),
            ("scope", "scope", str),
            ("exp", "expires_at", int),
            ("share", "share", int),
            ("team", "team", str),
        ):
            value = claims.get(claim, _DEFAULTS.get(claim))
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"claim {claim} is {value!r}, not of type {kind.__name__}")
            fields[field] = value
        try:
            fields["scope"] = Scope(fields["scope"])
        except ValueError:
            known = ", ".join(repr(scope.value) for scope in Scope)
            raise ValueError(f"claim scope is {fields['scope']!r}; it must be one of {known}") from None
        return cls(**fields)

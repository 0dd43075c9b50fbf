"""What a lease token allows, as far as that can be judged without asking anybody."""

import math
from dataclasses import dataclass

from bench_agent.protocol.claims import LeaseClaims, Scope
from bench_agent.server.epochs import Unshared
from bench_agent.server.errors import denied


@dataclass(frozen=True, slots=True)
class Verdict:
    """Why a token is refused."""

    message: str
    sound: bool = True
    """It was good once, for somebody, somewhere; False: it is expired."""
    superseded: bool = False


def judge(claims: LeaseClaims, bench: str, *, left_s: float, seen: int, fenced: int) -> Verdict | None:
    """None if the token may act on ``bench`` now, else why not. ``left_s``: how long it is good for."""
    if claims.bench != bench:
        return Verdict(f"lease token is for bench {claims.bench!r}, not for {bench!r}")
    if left_s <= 0:
        return Verdict(f"lease token expired {math.ceil(-left_s)} s ago", sound=False)
    if claims.epoch <= fenced:
        return Verdict(f"lease {claims.lease} (epoch {claims.epoch}) on bench {bench} has ended", superseded=True)
    if claims.epoch < seen:
        return Verdict(
            f"lease {claims.lease} (epoch {claims.epoch}) on bench {bench} was superseded by epoch {seen}",
            superseded=True,
        )
    return None


def no_longer_shared(claims: LeaseClaims, unshared: Unshared) -> bool:
    """Whether the token is of somebody with whom its lease was shared."""
    shared = claims.scope is not Scope.HOLDER and claims.epoch == unshared.epoch
    return shared and claims.share <= unshared.up_to(claims.holder)


def unshared_text(claims: LeaseClaims) -> str:
    """Why the token is refused then."""
    return f"lease {claims.lease} on bench {claims.bench} is shared with {claims.holder} as {claims.scope} no more"


def require(claims: LeaseClaims, scope: Scope, what: str) -> None:
    """Raises CallError unless the token allows this; ``what`` is what its bearer tries to do."""
    if not claims.scope.allows(scope):
        raise denied(
            f"{what} needs a {scope} of lease {claims.lease}: it is shared with {claims.holder} as {claims.scope} only"
        )

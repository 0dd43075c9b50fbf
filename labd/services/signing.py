"""labd's keys: lease tokens for agents to verify offline, and run tokens for the runner-only routes."""

import contextlib
import functools
import hashlib
import hmac
import json
import math
import os
import secrets
from pathlib import Path

from joserfc import jwt
from joserfc.jwk import KeySet, KeySetSerialization, OKPKey

from bench_agent.protocol.claims import ALGORITHM, LeaseClaims, Scope
from labd.model.lease import Lease, LeasedBench, Share

KEY_NAME = "signing-key.pem"
TOKENS_KEPT = 4096
"""Lease tokens that are not signed again."""


class KeyUnusable(Exception):
    """The key file cannot be read; the message names it."""


class Signer:
    """Signs with the Ed25519 key of the data directory, which is made on first use."""

    def __init__(self, directory: Path) -> None:
        """Raises KeyUnusable."""
        path = directory / KEY_NAME
        try:
            if not path.exists():
                _create(path)
            key = _key_in(path.read_bytes())
        except (OSError, ValueError) as error:
            raise KeyUnusable(f"the signing key {path} cannot be read: {error}") from error
        self._kid = key.thumbprint()
        self._key = OKPKey.import_key(key.as_dict(private=True), {"kid": self._kid, "use": "sig", "alg": ALGORITHM})
        # Ed25519 signs alike each time (RFC 8032, 5.1.6): every answer about a lease shows the same token.
        self._signed = functools.lru_cache(TOKENS_KEPT)(self._sign)
        self._run_secret = hashlib.sha256(b"labd run tokens\0" + path.read_bytes()).digest()

    @property
    def key_id(self) -> str:
        """The thumbprint of the public half (RFC 7638)."""
        return self._kid

    @property
    def jwks(self) -> str:
        """The public half as a JWK set (RFC 7517), as JSON text."""
        return json.dumps(self.public_keys)

    @property
    def public_keys(self) -> KeySetSerialization:
        """The same as a dictionary."""
        return KeySet([self._key]).as_dict(private=False)

    def lease_token(self, lease: Lease, part: LeasedBench, share: Share | None = None) -> str:
        """The token of a held lease for one of its benches, of its holder or of somebody with whom it is shared.

        It expires at the lease's hard end, rounded up to a whole second.
        """
        if lease.expires_at is None:
            raise ValueError(f"lease {lease.id} is {lease.state}: it has no bench to sign for")
        claims = LeaseClaims(
            lease=lease.id,
            bench=part.bench,
            epoch=part.epoch,
            holder=lease.holder if share is None else share.holder,
            scope=Scope.HOLDER if share is None else Scope(share.mode.value),
            expires_at=math.ceil(lease.expires_at),
            share=0 if share is None else share.number,
            team=lease.team,
        )
        return self._signed(claims)

    def _sign(self, claims: LeaseClaims) -> str:
        return jwt.encode({"alg": ALGORITHM, "kid": self._kid}, claims.to_jwt(), self._key, algorithms=[ALGORITHM])

    def run_token(self, run_id: str, attempt: int = 1) -> str:
        """Opens the runner-only routes of one run to the runner of one attempt; the same after a restart of labd."""
        # That of the first attempt is what it was before there were others: runners outlive an update of labd.
        name = run_id if attempt == 1 else f"{run_id}/{attempt}"
        return hmac.new(self._run_secret, name.encode("utf-8"), hashlib.sha256).hexdigest()

    def is_run_token(self, run_id: str, token: str, attempt: int = 1) -> bool:
        """Whether the token is that of the run's attempt, found out in constant time."""
        return hmac.compare_digest(self.run_token(run_id, attempt).encode("ascii"), token.encode("utf-8", "replace"))


def key_id_in(pem: bytes) -> str:
    """The ID of the key in such a file. Raises ValueError."""
    return _key_in(pem).thumbprint()


def _key_in(pem: bytes) -> OKPKey:
    key = OKPKey.import_key(pem)
    if key.curve_name != ALGORITHM or not key.is_private:
        raise ValueError(f"it is not a private {ALGORITHM} key")
    return key


def _create(path: Path) -> None:
    pem = OKPKey.generate_key("Ed25519", private=True).as_pem(private=True)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(f".part-{secrets.token_hex(4)}")
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, pem)
        os.fsync(file)
    finally:
        os.close(file)
    # Several labds may be about to: the first one's is everybody's.
    with contextlib.suppress(FileExistsError):
        os.link(part, path)
    part.unlink()

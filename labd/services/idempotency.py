"""A request that is sent again with its key acts once and is answered alike, also when labd was killed in between.

The answer is kept in the transaction of the effect: either both are durable or neither is. It is encrypted with the
key, which only the client knows: answers hold tokens.
"""

import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from labd.model.identity import Actor
from labd.services.core import Core
from labd.services.errors import FieldError, InProgress, Invalid
from labd.services.ledger import Ledger
from labd.store.units.idempotency import StoredAnswer

KEPT_S = 24 * 3600.0
_NONCE_BYTES = 12


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with a key."""

    actor: Actor
    owner: str
    """Whose key it is."""
    key: str
    content: bytes
    """All that matters of the request."""

    @property
    def key_id(self) -> str:
        """Who sent which key; does not tell the key."""
        return _hash(b"id", self.owner.encode(), self.key.encode()).hex()

    @property
    def digest(self) -> str:
        """What is asked for."""
        return _hash(b"request", self.key.encode(), self.content).hex()

    @property
    def cipher(self) -> AESGCM:
        """Only who knows the key can read the answer."""
        return AESGCM(_hash(b"answer", self.owner.encode(), self.key.encode()))


class Idempotency:
    """The answers that are kept."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._lock = threading.Lock()
        self._in_progress: set[str] = set()

    @contextmanager
    def alone(self, request: KeyedRequest) -> Iterator[None]:
        """Raises InProgress while another request with this key is worked on."""
        with self._lock:
            if request.key_id in self._in_progress:
                raise InProgress("a request with this Idempotency-Key is being worked on")
            self._in_progress.add(request.key_id)
        try:
            yield
        finally:
            with self._lock:
                self._in_progress.discard(request.key_id)

    def recall(self, request: KeyedRequest) -> bytes | None:
        """The answer that the request got before. Raises Invalid when the key came with another request."""
        with self._core.view() as unit:
            stored = unit.kept_answer(request.key_id, self._core.clock.now() - KEPT_S)
        if stored is None:
            return None
        if stored.request != request.digest:
            message = "expected a new key: this one came with another request"
            raise Invalid(f"Idempotency-Key: {message}", FieldError("Idempotency-Key", request.key, message))
        nonce, sealed = stored.answer[:_NONCE_BYTES], stored.answer[_NONCE_BYTES:]
        try:
            return request.cipher.decrypt(nonce, sealed, stored.request.encode())
        except InvalidTag:
            raise RuntimeError("a kept answer cannot be read: its row was altered") from None

    def claim(self, request: KeyedRequest, ledger: Ledger) -> None:
        """Raises KeyTaken when the request has its answer. It gets none by another labd until the transaction ends."""
        ledger.unit.claim_key(request.key_id, ledger.now - KEPT_S)

    def keep(self, request: KeyedRequest, answer: bytes) -> None:
        """Keeps the answer, in the thread's open transaction if there is one. Raises KeyTaken."""
        nonce = os.urandom(_NONCE_BYTES)
        sealed = nonce + request.cipher.encrypt(nonce, answer, request.digest.encode())
        with self._core.transaction(request.actor) as ledger:
            ledger.unit.keep_answer(
                request.key_id, StoredAnswer(request.digest, sealed), ledger.now, ledger.now - KEPT_S
            )


def _hash(*parts: bytes) -> bytes:
    digest = hashlib.sha256(b"labd idempotency")
    for part in parts:
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.digest()

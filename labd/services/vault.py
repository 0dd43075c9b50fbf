"""Seals secrets at rest with AES-256-GCM (NIST SP 800-38D), under a key of labd's own."""

import contextlib
import hashlib
import os
import secrets
from base64 import b64decode, b64encode
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from labd.services.signing import KeyUnusable

KEY_FILE = "secrets-key"
"""In the data directory, unless another file is named."""
_KEY_BYTES, _ID_BYTES, _NONCE_BYTES = 32, 8, 12
_FORMAT = b"\x01"


class SecretUnreadable(Exception):
    """A sealed value does not open; the message says why, and nothing of the value."""


class Vault:
    """The keys of one file: a Base64 line for each. The first one seals, all of them open."""

    def __init__(self, path: Path) -> None:
        """Makes the file when it is missing. Raises KeyUnusable."""
        self.path = path
        try:
            if not path.exists():
                _write(path, [secrets.token_bytes(_KEY_BYTES)], only_first=True)
            keys = _keys_in(path.read_bytes())
        except (OSError, ValueError) as error:
            raise KeyUnusable(f"the secrets key {path} cannot be read: {error}") from error
        self._keys = {_id(key): key for key in keys}
        self._first = _id(keys[0])

    @property
    def key_id(self) -> str:
        """Of the key that seals, in hexadecimal."""
        return self._first.hex()

    def seal(self, value: str, place: str) -> bytes:
        """The value, sealed. It opens at its ``place`` only: nobody can swap it for another's in the database."""
        nonce = os.urandom(_NONCE_BYTES)
        head = _FORMAT + self._first
        return head + nonce + AESGCM(self._keys[self._first]).encrypt(nonce, value.encode("utf-8"), _bound(head, place))

    def open(self, sealed: bytes, place: str) -> str:
        """The value that was sealed for the place. Raises SecretUnreadable."""
        head, nonce = sealed[: 1 + _ID_BYTES], sealed[1 + _ID_BYTES : 1 + _ID_BYTES + _NONCE_BYTES]
        key = self._keys.get(head[1:])
        if head[:1] != _FORMAT or key is None:
            raise SecretUnreadable(f"{place} was sealed with key {head[1:].hex()}, which {self.path} does not hold")
        try:
            value = AESGCM(key).decrypt(nonce, sealed[1 + _ID_BYTES + _NONCE_BYTES :], _bound(head, place))
        except InvalidTag:
            raise SecretUnreadable(f"{place} was altered in the database: set it anew") from None
        return value.decode("utf-8")

    def add_key(self) -> None:
        """A new key, which seals from now on; the others go on opening."""
        key = secrets.token_bytes(_KEY_BYTES)
        self._keys = {_id(key): key, **self._keys}
        self._first = _id(key)
        _write(self.path, list(self._keys.values()))

    def drop_old_keys(self) -> int:
        """Only the first key stays; returns how many went."""
        dropped = len(self._keys) - 1
        self._keys = {self._first: self._keys[self._first]}
        _write(self.path, list(self._keys.values()))
        return dropped


def key_ids_in(text: bytes) -> tuple[str, ...]:
    """The IDs of the keys in such a file, in hexadecimal; the one that seals first. Raises ValueError."""
    return tuple(_id(key).hex() for key in _keys_in(text))


def _keys_in(text: bytes) -> list[bytes]:
    keys = [b64decode(line, validate=True) for line in text.decode("ascii").split()]
    if not keys or any(len(key) != _KEY_BYTES for key in keys):
        raise ValueError(
            f"it must hold a line of Base64 for each key of {_KEY_BYTES} bytes; "
            f"make one with: openssl rand -base64 {_KEY_BYTES}"
        )
    return keys


def _id(key: bytes) -> bytes:
    return hashlib.sha256(b"labd secrets key\0" + key).digest()[:_ID_BYTES]


def _bound(head: bytes, place: str) -> bytes:
    return head + place.encode("utf-8")


def _write(path: Path, keys: list[bytes], *, only_first: bool = False) -> None:
    """``only_first``: the file of a replica that was faster stays."""
    part = path.with_name(f"{path.name}.part-{secrets.token_hex(4)}")
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(file, b"".join(b64encode(key) + b"\n" for key in keys))
        os.fsync(file)
    finally:
        os.close(file)
    if not only_first:
        part.replace(path)
        return
    with contextlib.suppress(FileExistsError):
        path.hardlink_to(part)
    part.unlink()

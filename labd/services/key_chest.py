"""Keys in a backup: sealed with a passphrase (scrypt, RFC 7914, and AES-256-GCM), for backups leave the house."""

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.scrypt import Scrypt

from labd.backup_file import BackupDamaged

PASSPHRASE_SHORTEST = 12
"""Characters."""
_COST = 2**15
_SALT_BYTES, _NONCE_BYTES = 16, 12
_PURPOSE = b"labd backup keys 1"


def lock(keys: Mapping[str, bytes], passphrase: str) -> bytes:
    """The keys by file name, sealed."""
    salt, nonce = os.urandom(_SALT_BYTES), os.urandom(_NONCE_BYTES)
    text = json.dumps({name: b64encode(content).decode("ascii") for name, content in keys.items()}).encode("ascii")
    return salt + nonce + AESGCM(_derived(passphrase, salt)).encrypt(nonce, text, _PURPOSE)


def unlock(sealed: bytes, passphrase: str) -> dict[str, bytes]:
    """The keys by file name. Raises BackupDamaged when the passphrase is another."""
    salt, nonce = sealed[:_SALT_BYTES], sealed[_SALT_BYTES : _SALT_BYTES + _NONCE_BYTES]
    try:
        text = AESGCM(_derived(passphrase, salt)).decrypt(nonce, sealed[_SALT_BYTES + _NONCE_BYTES :], _PURPOSE)
    except InvalidTag:
        raise BackupDamaged("the passphrase does not open the keys of this backup") from None
    return {name: b64decode(content) for name, content in json.loads(text).items()}


def _derived(passphrase: str, salt: bytes) -> bytes:
    return Scrypt(salt=salt, length=32, n=_COST, r=8, p=1).derive(passphrase.encode("utf-8"))

"""Seed and key: how the key of SecurityAccess (ISO 14229-1, service 0x27) follows from the seed.

Both sides use the same table: the tester to unlock an ECU, the simulated ECU to judge a key. An algorithm of one's own
is a function in `ALGORITHMS`.
"""

from collections.abc import Callable
from itertools import cycle

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from ecu_adapters.yaml_file import nearest

KeyAlgorithm = Callable[[bytes, bytes], bytes]
"""From the secret and the seed to the key. Raises ValueError when the secret does not suit."""


def xor(secret: bytes, seed: bytes) -> bytes:
    """The seed XOR the secret, which repeats as needed: the textbook example, and no protection."""
    if not secret:
        raise ValueError("xor needs a secret of at least 1 byte")
    return bytes(a ^ b for a, b in zip(seed, cycle(secret), strict=False))


def aes_cmac(secret: bytes, seed: bytes) -> bytes:
    """AES-CMAC (RFC 4493) of the seed: 16 bytes. The secret has 16, 24 or 32 bytes."""
    if len(secret) not in (16, 24, 32):
        raise ValueError(f"aes-cmac needs a secret of 16, 24 or 32 bytes; this one has {len(secret)}")
    mac = CMAC(AES(secret))
    mac.update(seed)
    return mac.finalize()


ALGORITHMS: dict[str, KeyAlgorithm] = {"xor": xor, "aes-cmac": aes_cmac}
"""Key algorithms by the name used in an ECU's description."""


def algorithm(name: str) -> KeyAlgorithm:
    """The algorithm of that name. Raises ValueError, naming the nearest."""
    if name not in ALGORITHMS:
        raise ValueError(f"unknown algorithm {name!r}; {nearest(name, ALGORITHMS)}")
    return ALGORITHMS[name]

"""Seed and key: how the key of SecurityAccess (ISO 14229-1, service 0x27) follows from the seed.

Both sides use the same algorithms: the tester to unlock an ECU, the simulated ECU to judge a key. Algorithms of one's
own are functions under the entry point group ``labd.security_algorithms``, by the name that descriptions use.

No error here shows a secret, a seed's key, or what somebody else's code has said about them.
"""

from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from itertools import cycle

from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.cmac import CMAC

from ecu_adapters.yaml_file import nearest

KeyAlgorithm = Callable[[bytes, bytes, int], bytes]
"""From the secret, the seed and the level (the sub-function that asks for the seed) to the key."""

GROUP = "labd.security_algorithms"
"""The entry point group of algorithms."""


def xor(secret: bytes, seed: bytes, _level: int = 1) -> bytes:
    """The seed XOR the secret, which repeats as needed: the textbook example, and no protection."""
    if not secret:
        raise ValueError("xor needs a secret of at least 1 byte")
    return bytes(a ^ b for a, b in zip(seed, cycle(secret), strict=False))


def aes_cmac(secret: bytes, seed: bytes, _level: int = 1) -> bytes:
    """AES-CMAC (RFC 4493) of the seed: 16 bytes. The secret has 16, 24 or 32 bytes."""
    if len(secret) not in (16, 24, 32):
        raise ValueError(f"aes-cmac needs a secret of 16, 24 or 32 bytes; this one has {len(secret)}")
    mac = CMAC(AES(secret))
    mac.update(seed)
    return mac.finalize()


ALGORITHMS: dict[str, KeyAlgorithm] = {"xor": xor, "aes-cmac": aes_cmac}
"""Algorithms that need no package of their own. They raise ValueError when the secret does not suit."""


@cache
def algorithm(name: str) -> KeyAlgorithm:
    """The algorithm of that name. Raises ValueError when there is none, naming the nearest, or it cannot be loaded."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if name not in installed:
        raise ValueError(f"unknown algorithm {name!r}; {nearest(name, {*ALGORITHMS, *installed})}")
    point = installed[name]
    try:
        function = point.load()
    except Exception as error:
        # Whatever a module of somebody else's raises while it is imported.
        raise ValueError(f"algorithm {name} ({point.value}) cannot be loaded: {error}") from error
    if not callable(function):
        raise ValueError(f"algorithm {name} ({point.value}) is no function of secret, seed and level")

    def compute(secret: bytes, seed: bytes, level: int) -> bytes:
        try:
            key = function(secret, seed, level)
        except Exception as error:
            raise ValueError(f"algorithm {name} ({point.value}) raised {type(error).__name__}") from None
        if not isinstance(key, bytes) or not key:
            raise ValueError(f"algorithm {name} ({point.value}) returned no bytes")
        return key

    return compute

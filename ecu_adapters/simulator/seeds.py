"""Seeds, keys and the lock-out of SecurityAccess (ISO 14229-1, 10.4)."""

import secrets
from collections.abc import Callable, Mapping
from typing import Any

from ecu_adapters.security_levels import Security
from ecu_adapters.simulator.clock import Clock


class Seeds:
    """The seed that awaits its key (one at most), and wrong keys by level."""

    def __init__(self, levels: Mapping[int, Security], clock: Clock, random_bytes: Callable[[int], bytes]) -> None:
        """Raises ValueError for a level whose key only a command can compute."""
        for level, security in levels.items():
            if security.algorithm is None:
                raise ValueError(f"security level {level} has a command, which is the tester's; add algorithm and key")
        self._levels = levels
        self._clock = clock
        self._random_bytes = random_bytes
        self._seed: tuple[int, bytes] | None = None
        self._attempts: dict[int, int] = {}
        self._locked_out_until: dict[int, float] = {}

    def void(self) -> None:
        """No seed awaits a key."""
        self._seed = None

    def is_locked_out(self, level: int) -> bool:
        """Whether the delay after too many wrong keys is running."""
        return self._clock.now() < self._locked_out_until.get(level, float("-inf"))

    def new(self, level: int, *, unlocked: bool) -> bytes:
        """A seed that awaits its key; all zero, and awaiting none, when the level is unlocked."""
        length = self._levels[level].seed_length
        if unlocked:
            self._seed = None
            return bytes(length)
        seed = bytes(length)
        while not any(seed):
            seed = self._random_bytes(length)
        self._seed = (level, seed)
        return seed

    def awaits_key(self, level: int) -> bool:
        """Whether a seed of this level awaits its key."""
        return self._seed is not None and self._seed[0] == level

    def key_length(self, level: int) -> int:
        """Bytes of the key for the seed that awaits it."""
        return len(self._levels[level].key_for(self._seed[1] if self._seed else b"", level))

    def try_key(self, level: int, key: bytes) -> tuple[bool, bool]:
        """Whether the key was right, and whether it was one wrong key too many. Voids the seed in any case."""
        security = self._levels[level]
        seed = self._seed[1] if self._seed else b""
        self._seed = None
        if secrets.compare_digest(security.key_for(seed, level), key):
            self._attempts.pop(level, None)
            return True, False
        attempts = self._attempts.get(level, 0) + 1
        if attempts < security.attempts:
            self._attempts[level] = attempts
            return False, False
        self._attempts.pop(level, None)
        self._locked_out_until[level] = self._clock.now() + security.delay_s
        return False, True

    def dump(self) -> dict[str, Any]:
        """Attempts, and seconds of lock-out that are left, in what JSON knows."""
        now = self._clock.now()
        return {
            "attempts": {str(level): count for level, count in self._attempts.items()},
            "locked_out_s": {str(level): end - now for level, end in self._locked_out_until.items() if end > now},
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """What `dump` gave: the lock-out goes on, as it does in an ECU that counts it while it has power."""
        now = self._clock.now()
        self._attempts |= {int(level): int(n) for level, n in kept["attempts"].items() if int(level) in self._levels}
        self._locked_out_until |= {int(level): now + float(left) for level, left in kept["locked_out_s"].items()}

"""Regular expressions from lease holders, matched where a catastrophic one costs nobody but its owner.

Python's ``re`` holds the interpreter's lock for a whole match, and nothing interrupts it: in a thread, one
``(a+)+$`` would stop the agent. So matches run in small child processes that are killed when one takes too long.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SEARCH_S = 2.0
"""Longest time for one search. A sound pattern takes microseconds."""
LONGEST_PATTERN = 4096
MOST_PATTERNS = 32

_START_S = 20.0
"""Longest time for the first answer of a new process, on a machine that is busy."""
_IDLE = 4
"""Processes kept for the next search."""
_LINE = 8 << 20
_WORKER = Path(__file__).with_name("pattern_worker.py")


class PatternError(ValueError):
    """A pattern cannot be used; names the pattern, the position and the reason."""


@dataclass(frozen=True, slots=True)
class Match:
    """Where a pattern was found."""

    index: int
    """Of the pattern."""
    start: int
    end: int
    groups: tuple[str | None, ...]
    named: dict[str, str | None]


class PatternSearch:
    """A pool of matching processes. Used on one asyncio loop."""

    def __init__(self) -> None:
        self._idle: list[_Worker] = []

    async def search(self, patterns: Sequence[str], text: str) -> Match | None:
        """The leftmost match in ``text``. Raises PatternError, also for a pattern that takes too long."""
        check(patterns)
        worker = self._idle.pop() if self._idle else _Worker()
        sound = False
        try:
            found = await worker.ask(patterns, text)
            sound = True
        finally:
            if sound and len(self._idle) < _IDLE:
                self._idle.append(worker)
            else:
                await worker.end()
        if "error" in found:
            pattern, position = patterns[found["index"]], found["position"]
            place = "" if position is None else f" at position {position}: {_pointed(pattern, position)}"
            raise PatternError(f"pattern {pattern!r} is no regular expression: {found['error']}{place}")
        if "span" not in found:
            return None
        start, end = found["span"]
        return Match(found["index"], start, end, tuple(found["groups"]), found["named"])

    async def close(self) -> None:
        """Ends the processes."""
        idle, self._idle = self._idle, []
        await asyncio.gather(*(worker.end() for worker in idle))


class _Worker:
    """One matching process, started with its first search."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def ask(self, patterns: Sequence[str], text: str) -> dict[str, Any]:
        request = json.dumps({"patterns": patterns, "text": text}).encode() + b"\n"
        if self._process is None:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-I", "-S", str(_WORKER),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE,
            )  # fmt: skip
            await self._exchange(self._process, b'{"patterns": [], "text": ""}\n', _START_S)
        answer = await self._exchange(self._process, request, SEARCH_S)
        if answer is None:
            raise PatternError(
                f"pattern {_shown(patterns)} took longer than {SEARCH_S:g} s on {len(text)} characters: it backtracks "
                "without end; avoid nested repeats such as (a+)+"
            )
        return answer

    async def _exchange(
        self, process: asyncio.subprocess.Process, request: bytes, allowed_s: float
    ) -> dict[str, Any] | None:
        """The answer, or None when there is none in time."""
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the matching process has no pipes")
        try:
            async with asyncio.timeout(allowed_s):
                process.stdin.write(request)
                await process.stdin.drain()
                line = await process.stdout.readline()
        except TimeoutError:
            return None
        if not line:
            raise RuntimeError("the matching process ended by itself")
        answer: dict[str, Any] = json.loads(line)
        return answer

    async def end(self) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


def check(patterns: Sequence[str]) -> None:
    """Raises PatternError for patterns that are too many, too long, or empty."""
    if not 1 <= len(patterns) <= MOST_PATTERNS:
        raise PatternError(f"{len(patterns)} patterns given; it must be 1 .. {MOST_PATTERNS}")
    for pattern in patterns:
        if not 1 <= len(pattern) <= LONGEST_PATTERN:
            raise PatternError(f"a pattern has {len(pattern)} characters; it must have 1 .. {LONGEST_PATTERN}")


def _shown(patterns: Sequence[str]) -> str:
    return " or ".join(repr(pattern) for pattern in patterns)


def _pointed(pattern: str, position: int) -> str:
    return repr(pattern[position : position + 20] or "its end")

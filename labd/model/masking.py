"""Takes secret values out of what a run writes, as they are and in the forms that they are commonly written in."""

import contextlib
import json
import re
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape, quoteattr

MASK = "***"
SHORTEST = 4
"""Characters of a secret value, and of a line of one: shorter ones would mask half the log."""


class Mask:
    """What to take out for one run."""

    def __init__(self, values: Iterable[str]) -> None:
        """``values`` may have several lines: each is secret by itself too."""
        literal: set[str] = set()
        patterns: list[str] = []
        longest = 0
        for value in values:
            for part in {value, *value.splitlines()}:
                if len(part.strip()) >= SHORTEST:
                    literal |= _spellings(part)
                    for data in (part.encode("utf-8", "surrogatepass"), *_meant(part)):
                        literal |= _base64(data)
                        patterns.append(_hexadecimal(data))
                        longest = max(longest, len(data) * len(", 0x00"))
        # Longer ones first: one secret may begin with another.
        words = [re.escape(word) for word in sorted(literal, key=lambda word: (-len(word), word))]
        self._pattern = re.compile("|".join([*words, *patterns])) if words else None
        self.reach = max([longest, *map(len, literal)])
        """Characters of the longest spelling of a secret."""

    def __bool__(self) -> bool:
        """Whether there is anything to take out."""
        return self._pattern is not None

    def text(self, text: str) -> str:
        """The text with `MASK` for every secret."""
        return text if self._pattern is None else self._pattern.sub(MASK, text)

    def lines(self, lines: Sequence[str], before: Sequence[str] = ()) -> tuple[list[str], list[str]]:
        """Consecutive lines, masked, and so those ``before`` them: a secret may have been written in pieces.

        A piece that a line ends with, and the pieces that the next ones begin with, are masked where they are.
        """
        if self._pattern is None:
            return list(before), list(lines)
        every = [*before, *lines]
        tail = max(0, sum(map(len, before)) - self.reach)
        spans = [match.span() for match in self._pattern.finditer("".join(every)[tail:])]
        masked, start = [], -tail
        for line in every:
            masked.append(_cut_out(line, start, spans))
            start += len(line)
        # A match across two lines can hide one that lies wholly within a line.
        masked = [self.text(line) for line in masked]
        return masked[: len(before)], masked[len(before) :]

    def document(self, value: Any) -> Any:
        """A JSON value with `MASK` for every secret in its texts and names."""
        match value:
            case str():
                return self.text(value)
            case dict():
                return {self.text(name): self.document(item) for name, item in value.items()}
            case list():
                return [self.document(item) for item in value]
        return value


def _cut_out(line: str, start: int, spans: Iterable[tuple[int, int]]) -> str:
    """The line, which begins at ``start`` of what the spans count, without what lies in them."""
    text, done = "", 0
    for first, last in spans:
        low, high = max(first - start, 0), min(last - start, len(line))
        if low < high:
            text += line[done:low] + MASK
            done = high
    return text + line[done:]


def _spellings(value: str) -> set[str]:
    """The value itself, and as URLs, JSON and XML have it."""
    data = value.encode("utf-8", "surrogatepass")
    found = {value, quote(data, safe=""), quote(data), quote_plus(data), escape(value), quoteattr(value)[1:-1]}
    found |= {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    return {spelling for spelling in found if len(spelling) >= SHORTEST}


def _meant(value: str) -> Iterator[bytes]:
    """The bytes that a value stands for, such as a key in hexadecimal or in Base64."""
    readings: tuple[Callable[[], bytes], ...] = (
        lambda: bytes.fromhex(re.sub(r"0[xX]|[\s,:_-]", "", value)),
        lambda: b64decode(value.strip().replace("-", "+").replace("_", "/"), validate=True),
    )
    for read in readings:
        with contextlib.suppress(ValueError):  # it is no such text
            data = read()
            if len(data) >= SHORTEST:
                yield data


def _base64(data: bytes) -> set[str]:
    """The bytes in Base64, wherever they stand in what was encoded."""
    found = set()
    for shift in range(3):
        encoded = b64encode(bytes(shift) + data).decode("ascii")
        # Characters that the neighbours have no part in: six bits each.
        inner = encoded[-(-shift * 8 // 6) : (shift + len(data)) * 8 // 6]
        found |= {inner, inner.replace("+", "-").replace("/", "_")}
    return {spelling for spelling in found if len(spelling) >= SHORTEST}


def _hexadecimal(data: bytes) -> str:
    """A pattern of the bytes in hexadecimal, with or without something between them."""
    return r"(?i:" + r"(?:[ :,_-]|, |0x| 0x|, 0x|\\x)?".join(f"{byte:02x}" for byte in data) + ")"

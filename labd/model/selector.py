"""Label selectors with the grammar of Kubernetes.

``a=b``, ``a==b``, ``a!=b``, ``c in (d,e)``, ``c notin (d,e)``, ``f``, ``!f``; terms joined by commas must all hold.
``!=`` and ``notin`` also hold where the label is missing. An empty selector matches every bench.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

NAME_LABEL = "name"
"""Reserved label: every bench carries its own name under it."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
_WORD = re.compile(r"[A-Za-z0-9_./-]+")
_SPACE = " \t"


class SelectorError(ValueError):
    """The text is no selector. ``column`` counts from 1 and points at what is wrong."""

    def __init__(self, message: str, column: int) -> None:
        super().__init__(f"column {column}: {message}")
        self.message = message
        self.column = column


class Operator(StrEnum):
    """How a term judges a label."""

    IN = "in"
    NOT_IN = "notin"
    EXISTS = "exists"
    ABSENT = "absent"


@dataclass(frozen=True, slots=True)
class Term:
    """One requirement on one label. ``values`` are sorted and without duplicates."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet the requirement."""
        match self.operator:
            case Operator.IN:
                return labels.get(self.key) in self.values
            case Operator.NOT_IN:
                return labels.get(self.key) not in self.values
            case Operator.EXISTS:
                return self.key in labels
            case Operator.ABSENT:
                return self.key not in labels

    def __str__(self) -> str:
        match self.operator:
            case Operator.EXISTS:
                return self.key
            case Operator.ABSENT:
                return f"!{self.key}"
        if len(self.values) == 1:
            return f"{self.key}{'=' if self.operator is Operator.IN else '!='}{self.values[0]}"
        return f"{self.key} {self.operator} ({','.join(self.values)})"


@dataclass(frozen=True, slots=True)
class Selector:
    """All terms must hold."""

    terms: tuple[Term, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether these labels meet every term."""
        return all(term.matches(labels) for term in self.terms)

    def __str__(self) -> str:
        return ",".join(str(term) for term in self.terms)


def parse(text: str) -> Selector:
    """Raises SelectorError with the column of the first mistake."""
    return Selector(tuple(_Parser(text).terms()))


def obstacle(selector: Selector, candidates: Mapping[str, Mapping[str, str]]) -> str | None:
    """Why none of the candidates (labels by bench name) can match, naming the term in the way; None if one matches."""
    if any(selector.matches(labels) for labels in candidates.values()):
        return None
    if not candidates:
        return "the lab knows no bench yet: no agent has reported one"
    for term in selector.terms:
        if not any(term.matches(labels) for labels in candidates.values()):
            return f"no bench meets {str(term)!r}: {_present(term, list(candidates.values()))}"
    name, missing = min(
        ((name, [term for term in selector.terms if not term.matches(labels)]) for name, labels in candidates.items()),
        key=lambda entry: (len(entry[1]), entry[0]),
    )
    terms = ", ".join(repr(str(term)) for term in missing)
    return f"no bench meets all terms together; the nearest is {name}, in whose way stands {terms}"


def _present(term: Term, candidates: Sequence[Mapping[str, str]]) -> str:
    values = sorted({labels[term.key] for labels in candidates if term.key in labels})
    if not values:
        keys = sorted({key for labels in candidates for key in labels})
        return f"no bench has the label {term.key!r}; there are {_some(keys)}"
    if term.operator is Operator.ABSENT:
        return f"every bench has the label {term.key!r}"
    return f"label {term.key!r} has {_some(values)}"


def _some(words: Sequence[str], most: int = 8) -> str:
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(repr(word) for word in words[:most]) + more


class _Parser:
    """Recursive descent over one line; ``position`` counts from 0."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def terms(self) -> Iterator[Term]:
        self._skip_space()
        if self._at_end():
            return
        while True:
            yield self._term()
            if self._at_end():
                return
            self._expect(",", "',' or the end of the selector")
            self._skip_space()
            if self._at_end():
                raise self._error("a term is missing after ','")

    def _term(self) -> Term:
        if self._accept("!"):
            self._skip_space()
            return Term(self._key(), Operator.ABSENT)
        key = self._key()
        if self._accept("!="):
            return Term(key, Operator.NOT_IN, (self._value(),))
        if self._accept("==") or self._accept("="):
            return Term(key, Operator.IN, (self._value(),))
        start = self.position
        word = self._word()
        if not word:
            return Term(key, Operator.EXISTS)
        if word not in (Operator.IN, Operator.NOT_IN):
            raise SelectorError(
                f"expected '=', '==', '!=', 'in', 'notin' or ',' after {key!r}, not {word!r}", start + 1
            )
        return Term(key, Operator(word), self._values())

    def _key(self) -> str:
        start = self.position
        key = self._word()
        if not key:
            raise self._error("expected a label name")
        prefix, slash, name = key.rpartition("/")
        if slash and not _PREFIX.fullmatch(prefix):
            raise SelectorError(f"{prefix!r} is no label prefix: lower-case letters, digits, '-' and '.'", start + 1)
        if not _NAME.fullmatch(name):
            raise SelectorError(
                f"{name!r} is no label name: at most 63 letters, digits, '-', '_' and '.', "
                "with a letter or digit at both ends",
                start + len(prefix) + len(slash) + 1,
            )
        return key

    def _value(self) -> str:
        self._skip_space()
        start = self.position
        value = self._word()
        if value and not _NAME.fullmatch(value):
            raise SelectorError(
                f"{value!r} is no label value: at most 63 letters, digits, '-', '_' and '.', "
                "with a letter or digit at both ends",
                start + 1,
            )
        return value

    def _values(self) -> tuple[str, ...]:
        self._expect("(", "'('")
        values: set[str] = set()
        while True:
            self._skip_space()
            start = self.position
            value = self._value()
            if not value:
                raise SelectorError("expected a label value", start + 1)
            values.add(value)
            if self._accept(")"):
                return tuple(sorted(values))
            self._expect(",", "',' or ')'")

    def _word(self) -> str:
        found = _WORD.match(self.text, self.position)
        if not found:
            return ""
        self.position = found.end()
        self._skip_space()
        return found.group()

    def _accept(self, symbol: str) -> bool:
        if not self.text.startswith(symbol, self.position):
            return False
        self.position += len(symbol)
        self._skip_space()
        return True

    def _expect(self, symbol: str, wanted: str) -> None:
        if not self._accept(symbol):
            raise self._error(f"expected {wanted}")

    def _skip_space(self) -> None:
        while not self._at_end() and self.text[self.position] in _SPACE:
            self.position += 1

    def _at_end(self) -> bool:
        return self.position >= len(self.text)

    def _error(self, message: str) -> SelectorError:
        found = "the end" if self._at_end() else repr(self.text[self.position])
        return SelectorError(f"{message}, found {found}", self.position + 1)

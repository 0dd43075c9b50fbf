"""Says which known word somebody may have meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'high'? There are 'low', 'normal', 'high'`` for a message about a word that is not known."""
    words = list(known)
    close = get_close_matches(word, words, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else ";"
    return f"{meant} there are {', '.join(map(repr, words))}" if words else f"{meant} there are none"

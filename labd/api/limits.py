"""How much somebody may ask of labd: the settings of ``labd serve --limit``, and who is over them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields

from labd.model.nearest import nearest
from labd.services.errors import TooManyRequests
from labd.services.rates import Buckets, Rate, Slots


@dataclass(frozen=True, slots=True)
class Limits:
    """A rate is in requests a second in the long run, a burst in requests at once; sizes are in bytes."""

    token_rate: int = 200
    token_burst: int = 400
    token_open: int = 64
    """Requests of one token that are open at once, streams included."""
    owner_rate: int = 400
    """Of all tokens of one user, or of one person or program of an identity provider."""
    owner_burst: int = 800
    owner_open: int = 256
    address_rate: int = 50
    """From one address for what is public, or without a good token."""
    address_burst: int = 200
    address_connections: int = 512
    """Connections of one address; a trusted proxy's have no bound."""
    request_bytes: int = 32 * 1024 * 1024
    """Of a request's body: a run with as many data files as one may have, in Base64."""
    result_bytes: int = 16 * 1024 * 1024
    """Of a run's result as its runner reports it, the same in JUnit XML included."""
    run_log_bytes: int = 8 * 1024 * 1024
    """Of a run's log: the runner counts what it drops beyond it."""


def limits_of(settings: Iterable[str]) -> Limits:
    """The limits that settings such as ``token-rate=20`` change. Raises ValueError, naming the setting."""
    names = [one.name.replace("_", "-") for one in fields(Limits)]
    changed: dict[str, int] = {}
    for setting in settings:
        name, _, number = setting.partition("=")
        if name not in names:
            raise ValueError(f"{setting!r}: no limit {name!r}{nearest(name, names)}")
        if not (number.isascii() and number.isdecimal()) or not 0 < int(number) < 2**31:
            raise ValueError(f"{setting!r}: expected a whole number above 0, such as {name}={default(name)}")
        changed[name.replace("-", "_")] = int(number)
    return Limits(**changed)


def default(name: str) -> int:
    """What a limit is unless it is set."""
    return int(getattr(Limits(), name.replace("-", "_")))


class Turnstile:
    """Who has asked how often, and has how much open. For the one thread of the web server."""

    def __init__(self, limits: Limits) -> None:
        self._tokens = Buckets(Rate(limits.token_rate, limits.token_burst))
        self._owners = Buckets(Rate(limits.owner_rate, limits.owner_burst))
        self._addresses = Buckets(Rate(limits.address_rate, limits.address_burst))
        self._open_by_token = Slots(limits.token_open)
        self._open_by_owner = Slots(limits.owner_open)

    def count_stranger(self, address: str, now: float) -> None:
        """Somebody asks whom labd does not know. Raises TooManyRequests."""
        _take(self._addresses, address, now, "from this address without a good token")

    def count(self, token: str, owner: str, now: float) -> None:
        """A request of the owner's, with one of their tokens. Raises TooManyRequests."""
        _take(self._tokens, token, now, "with this token")
        _take(self._owners, owner, now, "with the tokens of one owner")

    @contextmanager
    def open(self, token: str, owner: str) -> Iterator[None]:
        """A request goes on. Raises TooManyRequests."""
        with _slot(self._open_by_token, token, "this token has"), _slot(self._open_by_owner, owner, "the owner has"):
            yield


def _take(buckets: Buckets, key: str, now: float, whose: str) -> None:
    wait_s = buckets.take(key, now)
    if wait_s:
        raise TooManyRequests(f"too many requests {whose}: slow down", wait_s)


@contextmanager
def _slot(slots: Slots, key: str, who: str) -> Iterator[None]:
    if not slots.enter(key):
        raise TooManyRequests(f"{who} too many requests and streams open: end some", 1.0)
    try:
        yield
    finally:
        slots.leave(key)

"""How much somebody may ask, by token, owner and address, also behind a proxy; who asks too much hurts nobody."""

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from labd.api.limits import Limits, limits_of
from labd.api.proxies import Proxies
from labd.model.identity import SYSTEM, ActorKind, Role
from labd.services.lab import Lab
from tests.unit.labd.fakes import FakeClock, attach, open_lab, report
from tests.unit.labd.serving import serving

BAD = "labd_0123456789_" + "0" * 64


@pytest.fixture
def database() -> None:
    """The database plays no part here."""


@pytest.fixture
def lab(tmp_path: Path, clock: FakeClock, database: None) -> Iterator[Lab]:
    lab = open_lab(tmp_path, clock, secure=True)
    attach(lab, report("bench-1"))
    for name in ("ada", "eve"):
        lab.identities.create_user(SYSTEM, name, ActorKind.PERSON)
        lab.identities.save_member(SYSTEM, "default", name, Role.ENGINEER)
    yield lab
    lab.core.store.close()


def token(lab: Lab, owner: str) -> str:
    return lab.identities.create_token(SYSTEM, "test", scopes=None, lifetime_s=3600, owner=owner)[1]


class Client:
    """Somebody at the other end of a real connection."""

    def __init__(self, address: tuple[str, int], token: str | None = None, **headers: str) -> None:
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        url = f"http://{address[0]}:{address[1]}/api/v1/"
        self.web = httpx2.Client(base_url=url, headers=headers, timeout=30)

    def statuses(self, count: int, path: str = "whoami") -> list[int]:
        return [self.web.get(path).status_code for _ in range(count)]

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.web.close()


def test_each_token_has_its_rate_and_all_of_one_owner_together(lab: Lab) -> None:
    limits = limits_of(["token-burst=5", "owner-burst=8", "token-rate=1", "owner-rate=1"])
    first, second, other = token(lab, "eve"), token(lab, "eve"), token(lab, "ada")
    with (
        serving(lab, limits) as address,
        Client(address, first) as laptop,
        Client(address, second) as script,
        Client(address, other) as ada,
    ):
        assert laptop.statuses(6) == [200] * 5 + [429]
        assert "with this token" in laptop.web.get("whoami").json()["detail"]
        assert script.statuses(4) == [200] * 3 + [429]
        assert "of one owner" in script.web.get("whoami").json()["detail"]
        assert ada.statuses(5) == [200] * 5


def test_who_floods_labd_with_good_and_bad_tokens_hurts_nobody_else(lab: Lab, clock: FakeClock) -> None:
    limits = limits_of(["token-burst=20", "address-burst=20", "address-rate=1"])
    eve, ada = token(lab, "eve"), token(lab, "ada")
    stop, seen = threading.Event(), set[int]()

    def flood(address: tuple[str, int], shown: str) -> None:
        with Client(address, shown) as client:
            while not stop.is_set():
                seen.update(client.statuses(1, "leases"))

    with serving(lab, limits) as address, Client(address, ada) as good:
        floods = [threading.Thread(target=flood, args=(address, shown)) for shown in (eve, BAD, "a.b.c")]
        for one in floods:
            one.start()
        try:
            for _ in range(5):
                lease = good.web.post("leases", json={"selector": "name=bench-1"})
                assert lease.status_code == 201, lease.text
                assert good.web.delete(f"leases/{lease.json()['id']}").status_code == 200
            until = time.monotonic() + 60
            while 429 not in seen and time.monotonic() < until:
                assert good.web.get("whoami").status_code == 200
        finally:
            stop.set()
            for one in floods:
                one.join(30)
    assert 429 in seen
    assert seen <= {200, 401, 429}


def test_open_streams_are_bounded_by_token_and_by_owner(lab: Lab) -> None:
    limits = Limits(token_open=3, owner_open=5)
    first, second, other = token(lab, "eve"), token(lab, "eve"), token(lab, "ada")
    with serving(lab, limits) as address, ExitStack() as stack:

        def opened(shown: str) -> int:
            client = stack.enter_context(Client(address, shown))
            return int(stack.enter_context(client.web.stream("GET", "leases/events")).status_code)

        assert [opened(first) for _ in range(4)] == [200, 200, 200, 429]
        assert [opened(second) for _ in range(3)] == [200, 200, 429]
        assert [opened(other) for _ in range(3)] == [200, 200, 200]


def test_a_trusted_proxy_says_who_asks_and_nobody_else_does(lab: Lab) -> None:
    limits = Limits(address_rate=1, address_burst=3, address_connections=2)
    with serving(lab, limits, "127.0.0.0/8") as address, ExitStack() as stack:

        def behind(*addresses: str) -> Client:
            return stack.enter_context(Client(address, BAD, **{"X-Forwarded-For": ", ".join(addresses)}))

        assert behind("192.0.2.1").statuses(4) == [401] * 3 + [429]
        assert behind("192.0.2.2").statuses(3) == [401] * 3
        # What the client itself sent stands before what the proxy has seen.
        assert behind("203.0.113.9", "192.0.2.1").statuses(1) == [429]
        assert behind("192.0.2.1", "127.0.0.7").statuses(1) == [429]
    with serving(lab, limits) as address:
        for number in range(4):
            with Client(address, BAD, **{"X-Forwarded-For": f"192.0.2.{number}"}) as spoofing:
                assert spoofing.statuses(1) == [401 if number < 3 else 429]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("tokn-rate=20", "did you mean 'token-rate'"),
        ("token-rate", "expected a whole number above 0, such as token-rate=200"),
        ("token-rate=0", "expected a whole number"),
        ("token-rate=-1", "expected a whole number"),
        ("token-rate=1e9", "expected a whole number"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(setting: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        limits_of([setting])


def test_limits_are_what_they_are_set_to() -> None:
    assert limits_of([]) == Limits()
    assert limits_of(["token-rate=7", "run-log-bytes=1000"]) == Limits(token_rate=7, run_log_bytes=1000)


def test_proxies_are_addresses_and_not_everybody() -> None:
    proxies = Proxies(["10.1.2.3", "2001:db8::/32"])
    assert ["10.1.2.3" in proxies, "2001:db8::1" in proxies, "10.1.2.4" in proxies, None in proxies] == [
        True,
        True,
        False,
        False,
    ]
    for wrong in ("0.0.0.0/0", "::/0", "proxy.example.com", "*", "10.1.2.3/8"):
        with pytest.raises(ValueError, match=r"expected an address or a network|everybody"):
            Proxies([wrong])

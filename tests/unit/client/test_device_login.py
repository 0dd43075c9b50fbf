"""Signing in by device code, and staying signed in, against a fake issuer that follows RFC 8628."""

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labd.client import LabError
from labd.client.credentials import Credential, SignInError, bearer, credentials_path, store, stored
from labd.client.device_login import INTERVAL_S, Prompt, sign_in
from tests.fake_issuer import FakeIssuer, fake_issuer

URL = "http://labd.test:8470"
SCOPE = "openid offline_access"


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("LABD_TOKEN", raising=False)
    return tmp_path


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    with fake_issuer() as fake:
        yield fake


class Pauses:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def clock(self) -> float:
        return sum(self.slept)


def go(issuer: FakeIssuer, pauses: Pauses, shown: list[Prompt]) -> Credential:
    return sign_in(issuer.url, "labd-cli", SCOPE, shown.append, sleep=pauses.sleep, clock=pauses.clock)


def test_it_asks_until_the_user_has_approved(issuer: FakeIssuer) -> None:
    issuer.polls = ["authorization_pending", "slow_down", "authorization_pending"]
    shown: list[Prompt] = []
    pauses = Pauses()
    credential = go(issuer, pauses, shown)
    assert shown == [Prompt(f"{issuer.url}/activate", "WDJB-MJHT", None)]
    assert pauses.slept == [1, 1, 1 + INTERVAL_S, 1 + INTERVAL_S]
    assert (credential.token.count("."), credential.refresh_token) == (2, "refresh-0")


def test_a_user_who_refuses_or_never_comes_is_not_signed_in(issuer: FakeIssuer) -> None:
    issuer.polls = ["access_denied"]
    with pytest.raises(SignInError, match="access_denied"):
        go(issuer, Pauses(), [])
    issuer.polls = ["authorization_pending"] * 1000
    pauses = Pauses()
    with pytest.raises(SignInError, match="nobody approved"):
        go(issuer, pauses, [])
    assert pauses.clock() <= 600


def test_an_issuer_that_is_away_is_named(issuer: FakeIssuer) -> None:
    issuer.broken = True
    with pytest.raises(SignInError, match=r"openid-configuration answers with status 500"):
        go(issuer, Pauses(), [])


def test_what_is_stored_is_the_owners_alone_and_for_one_url(config: Path) -> None:
    store(URL + "/", Credential("secret"))
    store("http://other.test", Credential("other"))
    assert (bearer(URL), bearer("http://other.test"), bearer("http://third.test")) == ("secret", "other", None)
    assert stat.S_IMODE(credentials_path().stat().st_mode) == 0o600
    assert [path.name for path in (config / "labd").iterdir()] == ["credentials.json"]
    store(URL, None)
    assert stored(URL) is None


def test_the_environment_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    store(URL, Credential("stored"))
    monkeypatch.setenv("LABD_TOKEN", "given")
    assert bearer(URL) == "given"


def test_a_sign_in_is_renewed_before_it_ends(issuer: FakeIssuer) -> None:
    credential = go(issuer, Pauses(), [])
    store(URL, credential)
    assert bearer(URL) == credential.token
    aged = Credential(
        credential.token, time.time() + 5, credential.refresh_token, credential.token_endpoint, credential.client_id
    )
    store(URL, aged)
    renewed = bearer(URL)
    assert issuer.refreshes == 1
    assert renewed == bearer(URL), "what was renewed is stored"
    assert issuer.refreshes == 1


def test_a_sign_in_that_cannot_be_renewed_says_what_to_do(issuer: FakeIssuer) -> None:
    store(URL, Credential("old", time.time() - 5))
    with pytest.raises(SignInError, match=f"labctl login {URL}"):
        bearer(URL)
    store(URL, Credential("old", time.time() - 5, "stolen", f"{issuer.url}/token", "labd-cli"))
    with pytest.raises(SignInError, match="invalid_grant"):
        bearer(URL)


def test_a_broken_file_is_named() -> None:
    store(URL, Credential("secret"))
    credentials_path().write_text("{")
    with pytest.raises(LabError, match=r"credentials\.json cannot be read"):
        bearer(URL)

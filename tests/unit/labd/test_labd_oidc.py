"""Tokens of others: OpenID Connect issuers and Kubernetes, against a fake that signs with real keys."""

import hmac
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import RSAKey

from labd.model.identity import SYSTEM, Role, Scope
from labd.services.errors import Unauthenticated
from labd.services.oidc import KEYS_AGAIN_S, LEEWAY_S, OidcProvider
from labd.services.providers import Grant, Kubernetes, Oidc, read_access_file, roles_of
from labd.services.token_review import TokenReviewProvider
from labd.settings_file import SettingsError
from tests.docs.pages import ROOT, blocks
from tests.fake_issuer import FakeIssuer, fake_issuer
from tests.unit.labd.fakes import EPOCH, FakeClock, application, attach, open_lab, report

JOB: dict[str, Any] = {
    "aud": "labd",
    "sub": "repo:acme/ecu:ref:refs/heads/main",
    "repository": "acme/ecu",
    "ref": "refs/heads/main",
}
GRANTS = (
    Grant(claims={"repository": "acme/*", "ref": "refs/heads/main"}, team="blue", role=Role.ENGINEER),
    Grant(claims={"repository": "acme/*"}, team="blue", role=Role.VIEWER, scopes=(Scope.READ,)),
)


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    with fake_issuer() as fake:
        yield fake


def provider_of(issuer: FakeIssuer, **changes: Any) -> OidcProvider:
    settings = {"name": "ci", "issuer": issuer.url, "audience": "labd", "grants": GRANTS, **changes}
    return OidcProvider(Oidc(**settings))


def test_a_job_gets_what_the_rules_say_of_its_claims(issuer: FakeIssuer) -> None:
    provider = provider_of(issuer)
    main = provider.vouch(issuer.token(now=EPOCH, **JOB), EPOCH)
    assert (main.name, main.roles, main.scopes) == (f"ci:{JOB['sub']}", {"blue": Role.ENGINEER}, None)
    branch = provider.vouch(issuer.token(now=EPOCH, **{**JOB, "ref": "refs/heads/wip/x"}), EPOCH)
    assert (branch.roles, branch.scopes) == ({"blue": Role.VIEWER}, frozenset({Scope.READ}))
    other = provider.vouch(issuer.token(now=EPOCH, **{**JOB, "repository": "evil/acme/ecu"}), EPOCH)
    assert other.roles == {}
    assert issuer.key_requests == 1


@pytest.mark.parametrize(
    ("changes", "lifetime_s"),
    [
        ({"aud": "other"}, 300),
        ({"aud": None}, 300),
        ({"iss": "http://127.0.0.1:1"}, 300),
        ({"nbf": EPOCH + LEEWAY_S + 5}, 300),
        ({"exp": None}, 300),
        ({"sub": None}, 300),
        ({"sub": "a\nb"}, 300),
        ({}, -LEEWAY_S - 5),
    ],
)
def test_a_token_that_is_not_for_labd_or_not_now_is_refused(
    issuer: FakeIssuer, changes: dict[str, Any], lifetime_s: float
) -> None:
    with pytest.raises(Unauthenticated):
        provider_of(issuer).vouch(issuer.token(now=EPOCH, lifetime_s=lifetime_s, **{**JOB, **changes}), EPOCH)


def test_clocks_may_differ_a_little(issuer: FakeIssuer) -> None:
    provider_of(issuer).vouch(issuer.token(now=EPOCH, lifetime_s=-LEEWAY_S + 10, **JOB), EPOCH)


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def test_only_the_issuers_own_signature_counts(issuer: FakeIssuer) -> None:
    claims = {"iss": issuer.url, "exp": int(EPOCH + 300), **JOB}
    rsa = RSAKey.generate_key(2048, {"kid": "first"}, private=True)
    public = issuer.keys[0].as_pem(private=False)
    forged = jwt.encode({"alg": "RS256", "kid": "first"}, claims, rsa, algorithms=["RS256"])
    # The public key, which everybody has, as if it were a secret that is shared.
    said = ".".join((_base64(b'{"alg":"HS256","kid":"first"}'), forged.split(".")[1]))
    confused = f"{said}.{_base64(hmac.digest(public, said.encode(), 'sha256'))}"
    unsigned = "eyJhbGciOiJub25lIn0." + forged.split(".")[1] + "."
    provider = provider_of(issuer)
    for token in (confused, forged, unsigned):
        with pytest.raises(Unauthenticated):
            provider.vouch(token, EPOCH)


def test_keys_may_change_and_strangers_cannot_have_them_fetched_at_will(issuer: FakeIssuer) -> None:
    provider = provider_of(issuer)
    provider.vouch(issuer.token(now=EPOCH, **JOB), EPOCH)
    issuer.rotate("second")
    later = EPOCH + KEYS_AGAIN_S + 1
    provider.vouch(issuer.token(now=later, **JOB), later)
    assert issuer.key_requests == 2
    issuer.rotate("unknown to labd")
    for _ in range(20):
        with pytest.raises(Unauthenticated):
            provider.vouch(issuer.token(now=later, **JOB), later)
    assert issuer.key_requests == 2


def test_an_issuer_that_is_away_keeps_only_its_newcomers_out(issuer: FakeIssuer) -> None:
    provider = provider_of(issuer)
    issuer.broken = True
    with pytest.raises(Unauthenticated, match="try again"):
        provider.vouch(issuer.token(now=EPOCH, **JOB), EPOCH)
    issuer.broken = False
    later = EPOCH + KEYS_AGAIN_S + 1
    provider.vouch(issuer.token(now=later, **JOB), later)
    issuer.broken = True
    tomorrow = later + 7200
    provider.vouch(issuer.token(now=tomorrow, **JOB), tomorrow)


def test_an_issuer_that_calls_itself_something_else_is_not_trusted(issuer: FakeIssuer) -> None:
    issuer.calls_itself = "https://login.example.com"
    with pytest.raises(Unauthenticated):
        provider_of(issuer).vouch(issuer.token(now=EPOCH, **{**JOB, "iss": issuer.url}), EPOCH)


def test_people_of_a_provider_are_members_by_name(issuer: FakeIssuer, tmp_path: Path, clock: FakeClock) -> None:
    settings = Oidc(name="corp", issuer=issuer.url, client_id="labd-cli", name_claim="email")
    lab = open_lab(tmp_path, clock, secure=True, providers=[OidcProvider(settings)])
    attach(lab, report("shared"))
    lab.identities.create_team(SYSTEM, "blue")
    lab.identities.save_member(SYSTEM, "blue", "corp:ada@example.com", Role.ENGINEER)
    token = issuer.token(now=clock.now(), aud="labd-cli", sub="1", email="ada@example.com")
    with TestClient(application(lab), base_url="http://labd.test/api/v1/") as web:
        ways = web.get("login").json()["providers"]
        assert [(one["name"], one["issuer"], one["client_id"]) for one in ways] == [("corp", issuer.url, "labd-cli")]
        ada = {"Authorization": f"Bearer {token}"}
        who = web.get("whoami", headers=ada).json()
        assert (who["name"], who["kind"], who["roles"]) == ("corp:ada@example.com", "person", {"blue": "engineer"})
        lease = web.post("leases", json={}, headers=ada).json()
        assert (lease["holder"], lease["team"], lease["state"]) == ("corp:ada@example.com", "blue", "GRANTED")
        clock.advance(301 + LEEWAY_S)
        assert web.get("whoami", headers=ada).status_code == 401
        stranger = issuer.token(now=clock.now(), iss="https://elsewhere.example.com", aud="labd-cli", sub="1")
        answer = web.get("whoami", headers={"Authorization": f"Bearer {stranger}"})
        assert (answer.status_code, "does not know the issuer" in answer.json()["detail"]) == (401, True)
    lab.core.store.close()


def cluster_of(issuer: FakeIssuer, tmp_path: Path) -> TokenReviewProvider:
    own = tmp_path / "own-token"
    own.write_text("labd-itself\n")
    grants = (Grant(claims={"namespace": "ci", "serviceaccount": "runner-*"}, team="blue", role=Role.ENGINEER),)
    settings = {"issuer": "https://k8s.test", "url": issuer.url, "token_file": own, "ca": None, "grants": grants}
    return TokenReviewProvider(Kubernetes(**settings))  # type: ignore[arg-type]  # as the file would have it


def reviewed(name: str = "system:serviceaccount:ci:runner-1", **changes: Any) -> dict[str, Any]:
    return {"authenticated": True, "user": {"username": name}, "audiences": ["labd"], **changes}


def test_a_service_account_is_who_the_api_server_says(issuer: FakeIssuer, tmp_path: Path) -> None:
    cluster = cluster_of(issuer, tmp_path)
    token = issuer.token(now=EPOCH, iss="https://k8s.test", sub="x")
    issuer.reviews[token] = reviewed()
    for _ in range(3):
        vouched = cluster.vouch(token, EPOCH)
    assert (vouched.name, vouched.roles) == ("kubernetes:ci/runner-1", {"blue": Role.ENGINEER})
    (asked,) = issuer.review_requests
    assert asked["authorization"] == "Bearer labd-itself"
    assert asked["body"]["spec"] == {"token": token, "audiences": ["labd"]}
    issuer.reviews.clear()
    with pytest.raises(Unauthenticated, match="does not know that token"):
        cluster.vouch(token, EPOCH + 11)


@pytest.mark.parametrize(
    "status",
    [
        {"authenticated": False},
        reviewed(audiences=["other"]),
        reviewed(audiences=None),
        reviewed("kubernetes-admin"),
        reviewed("system:serviceaccount:ci"),
        {},
    ],
)
def test_what_the_api_server_does_not_confirm_is_nobody(
    issuer: FakeIssuer, tmp_path: Path, status: dict[str, Any]
) -> None:
    token = issuer.token(now=EPOCH, iss="https://k8s.test")
    issuer.reviews[token] = status
    with pytest.raises(Unauthenticated):
        cluster_of(issuer, tmp_path).vouch(token, EPOCH)


def test_forged_tokens_do_not_swamp_the_api_server(issuer: FakeIssuer, tmp_path: Path) -> None:
    cluster = cluster_of(issuer, tmp_path)
    for number in range(80):
        with pytest.raises(Unauthenticated):
            cluster.vouch(issuer.token(now=EPOCH, iss="https://k8s.test", jti=str(number)), EPOCH)
    assert len(issuer.review_requests) == 50
    with pytest.raises(Unauthenticated, match="expired"):
        cluster.vouch(issuer.token(now=EPOCH, iss="https://k8s.test", lifetime_s=-1), EPOCH + 60)
    assert len(issuer.review_requests) == 50


@pytest.mark.parametrize(
    ("pattern", "value", "fits"),
    [
        ("acme/*", "acme/ecu", True),
        ("acme/*", "acme/ecu/fork", False),
        ("acme/**", "acme/ecu/fork", True),
        ("acme/*", "evil-acme/ecu", False),
        ("a.c", "abc", False),
        ("true", True, True),
        ("hil-*", ["staff", "hil-team"], True),
        ("hil-*", None, False),
        ("*", {"a": 1}, False),
    ],
)
def test_patterns_of_claims(pattern: str, value: object, fits: bool) -> None:
    roles, _ = roles_of([Grant(claims={"c": pattern}, team="t", role=Role.VIEWER)], {"c": value})
    assert bool(roles) is fits


def test_all_mistakes_of_the_access_file_are_told_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "access.yaml"
    path.write_text(
        "oidc:\n"
        "  - name: Corp\n"
        "    issuer: http://login.example.com\n"
        "    client_id: labd\n"
        "  - name: ci\n"
        "    issuer: https://ci.example.com\n"
        "    audience: labd\n"
        "    algorithms: [HS256]\n"
        "    grants:\n"
        "      - {claims: {}, team: blue, role: boss}\n"
    )
    with pytest.raises(SettingsError) as failure:
        read_access_file(path)
    lines = [line.removeprefix(f"{path}:").partition(": ") for line in str(failure.value).splitlines()]
    places = [(int(line), rest.partition(": ")[0]) for line, _, rest in lines]
    assert places == [
        (2, "oidc.0.name"),
        (3, "oidc.0.issuer"),
        (8, "oidc.1.algorithms.0"),
        (10, "oidc.1.grants.0.claims"),
        (10, "oidc.1.grants.0.role"),
    ]


def test_the_files_that_the_manual_shows_are_right(tmp_path: Path) -> None:
    page = ROOT / "docs" / "how-to" / "log-in-and-manage-access.md"
    shown = [block for block in blocks(page) if block.language == "yaml"]
    assert len(shown) == 2
    for block in shown:
        path = tmp_path / block.value
        path.write_text(block.code)
        assert read_access_file(path).oidc

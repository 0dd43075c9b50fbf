"""Tokens as GitHub Actions, GitLab CI and Kubernetes issue them: their published claims, and what attackers make of it.

The payloads have the members that the providers document (GitHub: "OpenID Connect reference"; GitLab: "ID token
payload"; Kubernetes: "TokenReview v1", "Managing Service Accounts"), with names of this lab's.
"""

import json
import socket
import threading
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from joserfc import jwt
from joserfc.jwk import RSAKey

from labd.api.app import create_app
from labd.model.identity import Role, Scope
from labd.services import provider_http
from labd.services.errors import ProviderAway, Unauthenticated
from labd.services.oidc import KEYS_AGAIN_S, OidcProvider
from labd.services.provider_http import ProviderHttp, ProviderUnreachable
from labd.services.providers import Grant, Kubernetes, Oidc, read_access_file
from labd.services.sign_in import TOKEN_LENGTH_MAX
from labd.services.token_review import TokenReviewProvider
from tests.docs.pages import ROOT, blocks
from tests.fake_issuer import FakeIssuer, fake_issuer
from tests.unit.labd.fakes import EPOCH, FakeClock, open_lab

GITHUB: dict[str, Any] = {
    "jti": "0f2b1a6e-1f5a-4b9f-8f8c-3d5f6f0a7c11",
    "sub": "repo:acme/ecu:ref:refs/heads/main",
    "aud": "labd",
    "ref": "refs/heads/main",
    "sha": "7f3c0f4a2b9d1e6c5a8b7d6e9f0a1b2c3d4e5f60",
    "repository": "acme/ecu",
    "repository_owner": "acme",
    "repository_owner_id": "65",
    "repository_id": "74",
    "repository_visibility": "private",
    "run_id": "9876543210",
    "run_number": "10",
    "run_attempt": "2",
    "runner_environment": "github-hosted",
    "actor": "octocat",
    "actor_id": "12",
    "workflow": "hil",
    "workflow_ref": "acme/ecu/.github/workflows/hil.yml@refs/heads/main",
    "head_ref": "",
    "base_ref": "",
    "event_name": "push",
    "ref_type": "branch",
    "ref_protected": "true",
    "job_workflow_ref": "acme/ecu/.github/workflows/hil.yml@refs/heads/main",
}
PULL_REQUEST = {
    "sub": "repo:acme/ecu:pull_request",
    "ref": "refs/pull/7/merge",
    "event_name": "pull_request",
    "head_ref": "attack",
    "base_ref": "main",
    "ref_protected": "false",
}
ENVIRONMENT = {"sub": "repo:acme/ecu:environment:bench", "environment": "bench"}
FORK = {"sub": "repo:evil/ecu:ref:refs/heads/main", "repository": "evil/ecu", "repository_owner": "evil"}

GITLAB: dict[str, Any] = {
    "namespace_id": "72",
    "namespace_path": "acme/powertrain",
    "project_id": "20",
    "project_path": "acme/powertrain/ecu",
    "user_id": "1",
    "user_login": "ada",
    "user_email": "ada@example.com",
    "user_access_level": "maintainer",
    "pipeline_id": "574",
    "pipeline_source": "push",
    "job_id": "302",
    "ref": "main",
    "ref_type": "branch",
    "ref_path": "refs/heads/main",
    "ref_protected": "true",
    "groups_direct": ["acme/powertrain"],
    "runner_id": 1,
    "runner_environment": "self-hosted",
    "sha": "714a629c0b401fdce83e847fc9589983fc6f46bc",
    "project_visibility": "private",
    "ci_config_ref_uri": "gitlab.example.com/acme/powertrain/ecu//.gitlab-ci.yml@refs/heads/main",
    "jti": "235b3a54-b797-45c7-ae9a-f72d7bc6ef5b",
    "sub": "project_path:acme/powertrain/ecu:ref_type:branch:ref:main",
    "aud": "labd",
}

ACCOUNT: dict[str, Any] = {
    "aud": ["labd"],
    "jti": "fdb9e0d6-4c6a-4e1d-8c7c-5f4d6a9b1c2d",
    "kubernetes.io": {
        "namespace": "hil",
        "node": {"name": "node-1", "uid": "b1c2"},
        "pod": {"name": "runner-1-abcde", "uid": "d3e4"},
        "serviceaccount": {"name": "runner-1", "uid": "f5a6"},
    },
    "sub": "system:serviceaccount:hil:runner-1",
}
REVIEWED: dict[str, Any] = {
    "authenticated": True,
    "user": {
        "username": "system:serviceaccount:hil:runner-1",
        "uid": "f5a6",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:hil", "system:authenticated"],
        "extra": {
            "authentication.kubernetes.io/credential-id": ["JTI=fdb9e0d6-4c6a-4e1d-8c7c-5f4d6a9b1c2d"],
            "authentication.kubernetes.io/pod-name": ["runner-1-abcde"],
        },
    },
    "audiences": ["labd"],
}


@pytest.fixture
def issuer() -> Iterator[FakeIssuer]:
    with fake_issuer() as fake:
        fake.rotate("rsa-1", rsa=True)
        yield fake


def manual(name: str) -> dict[str, Any]:
    """A provider of the file that the manual shows for pipelines."""
    page = ROOT / "docs" / "how-to" / "log-in-and-manage-access.md"
    (block,) = [block for block in blocks(page) if block.value == "pipelines.yaml"]
    path = Path(block.value)
    path.write_text(block.code)
    shown = read_access_file(path)
    everyone: list[Oidc | Kubernetes] = [*shown.oidc, *shown.kubernetes]
    return next(one.model_dump() for one in everyone if one.name == name)


@pytest.fixture
def github(issuer: FakeIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OidcProvider:
    monkeypatch.chdir(tmp_path)
    return OidcProvider(Oidc(**{**manual("github"), "issuer": issuer.url}))


def token(issuer: FakeIssuer, claims: dict[str, Any], **changes: Any) -> str:
    # GitHub's and GitLab's begin to be valid some time before they are issued.
    return issuer.token(now=EPOCH, **{"nbf": int(EPOCH) - 600, **claims, **changes})


def test_a_job_of_github_gets_what_the_manuals_rules_give(issuer: FakeIssuer, github: OidcProvider) -> None:
    main = github.vouch(token(issuer, GITHUB), EPOCH)
    assert (main.name, main.roles) == ("github:repo:acme/ecu:ref:refs/heads/main", {"powertrain": Role.ENGINEER})
    assert main.scopes == frozenset({Scope.READ, Scope.RUN})
    deploying = github.vouch(token(issuer, GITHUB, **ENVIRONMENT), EPOCH)
    assert (deploying.name, deploying.roles) == ("github:repo:acme/ecu:environment:bench", main.roles)
    for other in (PULL_REQUEST, FORK, {"ref": "refs/heads/main-attack"}, {"ref": "refs/tags/main", "ref_type": "tag"}):
        assert github.vouch(token(issuer, GITHUB, **other), EPOCH).roles == {}, other


def test_an_environment_of_github_may_be_asked_for(issuer: FakeIssuer) -> None:
    grant = Grant(claims={"repository": "acme/ecu", "environment": "bench"}, team="blue", role=Role.ENGINEER)
    provider = OidcProvider(Oidc(name="github", issuer=issuer.url, audience="labd", grants=(grant,)))
    assert provider.vouch(token(issuer, GITHUB, **ENVIRONMENT), EPOCH).roles == {"blue": Role.ENGINEER}
    for other in ({}, {"environment": "production"}, {"environment": ["bench", {}]} | {"repository": "evil/ecu"}):
        assert provider.vouch(token(issuer, GITHUB, **other), EPOCH).roles == {}


def test_a_job_of_gitlab_gets_what_the_manuals_rules_give(
    issuer: FakeIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    provider = OidcProvider(Oidc(**{**manual("gitlab"), "issuer": issuer.url}))
    job = provider.vouch(token(issuer, GITLAB), EPOCH)
    assert (job.name, job.roles) == (f"gitlab:{GITLAB['sub']}", {"powertrain": Role.ENGINEER})
    assert provider.vouch(token(issuer, GITLAB, aud=["other", "labd"]), EPOCH).roles == job.roles
    # Of a merge request from a fork, these claims name the fork.
    fork = {"project_path": "evil/ecu", "namespace_path": "evil", "job_project_path": "acme/powertrain/ecu"}
    for other in ({"ref_protected": "false"}, {"ref_protected": None}, fork, {"project_path": "acme-evil/ecu"}):
        assert provider.vouch(token(issuer, GITLAB, **other), EPOCH).roles == {}, other


def test_a_service_account_is_reviewed_as_kubernetes_has_it(
    issuer: FakeIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "own-token"
    own.write_text("labd-itself\n")
    settings = Kubernetes(**{**manual("kubernetes"), "url": issuer.url, "token_file": own, "ca": None})
    provider = TokenReviewProvider(settings)
    shown = issuer.token(now=EPOCH, iss=settings.issuer, **ACCOUNT)
    issuer.reviews[shown] = REVIEWED
    vouched = provider.vouch(shown, EPOCH)
    assert (vouched.name, vouched.roles) == ("kubernetes:hil/runner-1", {"powertrain": Role.ENGINEER})
    unknown = issuer.token(now=EPOCH, iss=settings.issuer, **{**ACCOUNT, "jti": "another"})
    with pytest.raises(Unauthenticated, match="does not know that token"):
        provider.vouch(unknown, EPOCH)
    issuer.broken = True
    another = issuer.token(now=EPOCH, iss=settings.issuer, **{**ACCOUNT, "jti": "a third"})
    with pytest.raises(ProviderAway, match="try again"):
        provider.vouch(another, EPOCH)


def _part(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def test_a_token_cannot_bring_its_own_key(issuer: FakeIssuer, github: OidcProvider) -> None:
    mine = RSAKey.generate_key(2048, {"kid": "mine"}, private=True)
    claims = {"iss": issuer.url, "exp": int(EPOCH + 300), **GITHUB}
    headers: list[dict[str, Any]] = [
        {"alg": "RS256", "kid": "mine", "jwk": mine.as_dict(private=False)},
        {"alg": "RS256", "kid": "rsa-1", "jwk": mine.as_dict(private=False)},
        {"alg": "RS256", "jku": "https://evil.example.com/keys"},
        {"alg": "RS256", "kid": "../../../../dev/null"},
        {"alg": "RS256", "kid": "rsa-1", "x5u": "https://evil.example.com/cert"},
    ]
    for header in headers:
        with pytest.raises(Unauthenticated):
            github.vouch(jwt.encode(header, claims, mine, algorithms=["RS256"]), EPOCH)
    good = token(issuer, GITHUB)
    head, body, signature = good.split(".")
    for broken in (
        f"{_part({'alg': 'none'})}.{body}.",
        f"{_part({'alg': 'None', 'kid': 'rsa-1'})}.{body}.{signature}",
        f"{_part({'alg': 'ES256', 'kid': 'rsa-1'})}.{body}.{signature}",
        f"{_part({'alg': 'RS256', 'kid': 'rsa-1', 'crit': ['b64'], 'b64': False})}.{body}.{signature}",
        f"{head}.{_part(claims | {'ref': 'refs/heads/x'})}.{signature}",
        f"{head}.{body}.{signature[:-8]}AAAAAAAA",
        f"{head}.{body}.",
    ):
        with pytest.raises(Unauthenticated):
            github.vouch(broken, EPOCH)
    github.vouch(good, EPOCH)


def test_a_key_that_is_not_known_yet_is_fetched_and_the_former_one_goes(
    issuer: FakeIssuer, github: OidcProvider
) -> None:
    former = token(issuer, GITHUB)
    github.vouch(former, EPOCH)
    issuer.rotate("rsa-2", keep=True, rsa=True)
    later = EPOCH + KEYS_AGAIN_S + 1
    for shown in (token(issuer, GITHUB), former):
        github.vouch(shown, later)
    issuer.rotate("rsa-3", rsa=True)
    again = later + KEYS_AGAIN_S + 1
    github.vouch(token(issuer, GITHUB), again)
    with pytest.raises(Unauthenticated):
        github.vouch(former, again)


def test_two_jobs_that_come_first_wait_for_the_same_keys(issuer: FakeIssuer, github: OidcProvider) -> None:
    shown = token(issuer, GITHUB)
    issuer.answering.clear()
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(github.vouch, shown, EPOCH) for _ in range(2)]
        threading.Timer(0.2, issuer.answering.set).start()
        assert [one.result(30).name for one in both] == [f"github:{GITHUB['sub']}"] * 2
    assert issuer.key_requests == 1


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{"])
def test_an_issuer_that_trickles_is_not_waited_for(monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    monkeypatch.setattr(provider_http, "TIMEOUT_S", 0.3)
    stop = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(answer)
            while answer and not stop.wait(0.1):
                connection.sendall(b" ")
            stop.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=trickle, args=(listener,), daemon=True)
        thread.start()
        try:
            with pytest.raises(ProviderUnreachable, match="does not answer"):
                ProviderHttp(None).json("GET", f"http://127.0.0.1:{listener.getsockname()[1]}/keys")
        finally:
            stop.set()
            thread.join(30)


def test_hostile_tokens_are_refused_at_the_door(
    issuer: FakeIssuer, github: OidcProvider, tmp_path: Path, clock: FakeClock
) -> None:
    lab = open_lab(tmp_path, clock, secure=True, providers=[github])
    deep = urlsafe_b64encode(b"[" * 8000).rstrip(b"=").decode()
    with TestClient(create_app(lab), base_url="http://labd.test/api/v1/") as web:
        for shown in (
            "x" * (TOKEN_LENGTH_MAX + 1),
            token(issuer, GITHUB, padding="x" * TOKEN_LENGTH_MAX),
            f"{_part({'alg': 'RS256'})}.{deep}.x",
            f"{deep}.{deep}.{deep}",
            f"{_part({'alg': 'RS256'})}.{_part({'iss': ['a']})}.x",
            f"{_part([])}.{_part({'iss': issuer.url})}.x",
            f"{_part({'alg': ['RS256'], 'kid': {}})}.{_part({'iss': issuer.url})}.x",
            "..",
            "a.b.c.d.e",
            token(issuer, GITHUB, exp="never"),
            token(issuer, GITHUB, aud={"labd": 1}),
        ):
            answer = web.get("whoami", headers={"Authorization": f"Bearer {shown}"})
            assert answer.status_code == 401, (shown[:80], answer.text)
        assert github.vouch(token(issuer, GITHUB, exp=10**400), EPOCH).expires_at < EPOCH + 4e7
        good = {"Authorization": f"Bearer {token(issuer, GITHUB)}"}
        assert web.get("whoami", headers=good).json()["roles"] == {"powertrain": "engineer"}
        # Nobody can tell now whose token it is: that is no reason to sign in anew.
        strange = OidcProvider(Oidc(name="away", issuer="http://127.0.0.1:9/x", audience="labd"))
        lab.sign_in._providers = [strange]  # type: ignore[union-attr]
        away = web.get(
            "whoami", headers={"Authorization": f"Bearer {token(issuer, GITHUB, iss='http://127.0.0.1:9/x')}"}
        )
        assert (away.status_code, away.headers["retry-after"]) == (503, "1")
    lab.core.store.close()

"""Which identity providers labd trusts, and what it makes of their claims: the file of ``labd serve --access``."""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from labd.model.identity import Role, Scope
from labd.settings_file import Model, read_settings

ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "Ed25519", "EdDSA")
"""Of signatures (RFC 7518, RFC 9864) that may be taken: those with a public key only."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ValueError("expected https: whoever stands between labd and the provider would decide who is who")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ValueError("expected a URL such as https://login.example.com")
    return text


Url = Annotated[str, AfterValidator(_url)]
ProviderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]


class Grant(Model):
    """A role in a team for whoever has these claims."""

    claims: Annotated[dict[str, str | tuple[str, ...]], Field(min_length=1)]
    """Patterns by claim, of which one has to fit: ``*`` stands for anything but ``/``, ``**`` for anything. Of a claim
    that is a list, one item has to fit. All claims have to."""
    team: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    """``*``: the whole lab."""
    role: Role
    scopes: Annotated[tuple[Scope, ...] | None, Field(min_length=1)] = None
    """What the token is narrowed to. Of several grants, what any of them allows."""

    def fits(self, claims: Mapping[str, Any]) -> bool:
        """Whether all claims fit."""
        return all(_fits(claims.get(name), patterns) for name, patterns in self.claims.items())


class Oidc(Model):
    """An OpenID Connect issuer: of people, who sign in with `labctl login`, or of the jobs of a CI system."""

    name: ProviderName
    issuer: Url
    """The claim ``iss``, to the letter; its keys are found by its discovery document (RFC 8414)."""
    client_id: str | None = None
    """What labd is registered as: people may sign in by themselves, and it is the audience of their tokens."""
    audience: str | None = None
    """What the tokens of jobs are made for (claim ``aud``)."""
    name_claim: str = "sub"
    """Which claim names somebody. One that people may change themselves lets them be somebody else."""
    scope: str = "openid offline_access"
    algorithms: tuple[Literal[ALGORITHMS], ...] = ("RS256", "ES256")  # type: ignore[valid-type]  # the literals of the tuple
    ca: Path | None = None
    """File of the authorities that the issuer's certificate is verified by; the system's without it."""
    grants: tuple[Grant, ...] = ()

    @model_validator(mode="after")
    def _has_an_audience(self) -> "Oidc":
        if self.client_id is None and self.audience is None:
            raise ValueError("needs client_id (people sign in) or audience (jobs of a CI system)")
        return self


class Kubernetes(Model):
    """The service accounts of a cluster, by its TokenReview API."""

    name: ProviderName = "kubernetes"
    issuer: str
    """The claim ``iss`` of its tokens, such as https://kubernetes.default.svc.cluster.local."""
    url: Url
    """Of the API server."""
    audience: str = "labd"
    token_file: Path = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")
    """With what labd itself may create TokenReviews; read anew each time."""
    ca: Path | None = Path("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
    grants: tuple[Grant, ...] = ()
    """On the claims ``namespace`` and ``serviceaccount``."""


class AccessFile(Model):
    """Everything."""

    oidc: tuple[Oidc, ...] = ()
    kubernetes: tuple[Kubernetes, ...] = ()

    @model_validator(mode="after")
    def _are_told_apart(self) -> "AccessFile":
        everyone = [*self.oidc, *self.kubernetes]
        for field in ("name", "issuer"):
            values = [getattr(one, field) for one in everyone]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"two providers have the {field} {twice[0]!r}")
        return self


def roles_of(grants: Iterable[Grant], claims: Mapping[str, Any]) -> tuple[dict[str, Role], frozenset[Scope] | None]:
    """The roles by team that these claims give, and what they are narrowed to."""
    fitting = [grant for grant in grants if grant.fits(claims)]
    roles: dict[str, Role] = {}
    for grant in fitting:
        if grant.team not in roles or grant.role.rank > roles[grant.team].rank:
            roles[grant.team] = grant.role
    scopes = [grant.scopes for grant in fitting]
    if not scopes or None in scopes:
        return roles, None
    return roles, frozenset(scope for some in scopes for scope in some or ())


def read_access_file(path: Path) -> AccessFile:
    """Raises SettingsError with every mistake and its line."""
    return read_settings(path, AccessFile)


def _fits(value: object, patterns: str | tuple[str, ...]) -> bool:
    values = value if isinstance(value, list) else [value]
    texts = [str(one).lower() if isinstance(one, bool) else str(one) for one in values if isinstance(one, str | int)]
    wanted = (patterns,) if isinstance(patterns, str) else patterns
    return any(_expression(pattern).fullmatch(text) for pattern in wanted for text in texts)


def _expression(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*)", pattern)
    meaning = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(meaning.get(part, re.escape(part)) for part in parts), re.DOTALL)

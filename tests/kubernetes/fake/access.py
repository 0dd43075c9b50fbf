"""Who asks, and whether they may: bearer tokens, RBAC, and the questions that are asked of both."""

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from joserfc import jwt
from joserfc.jwk import ECKey

from tests.kubernetes.fake.errors import Object
from tests.kubernetes.fake.resources import PODS, SERVICE_ACCOUNTS
from tests.kubernetes.fake.storage import Storage

API_AUDIENCE = "https://kubernetes.default.svc.cluster.local"
RBAC = "rbac.authorization.k8s.io"


@dataclass(frozen=True)
class User:
    """As a TokenReview tells it."""

    name: str
    uid: str = ""
    groups: tuple[str, ...] = ("system:authenticated",)
    extra: dict[str, list[str]] = field(default_factory=dict, hash=False)

    def info(self) -> Object:
        said = {"username": self.name, "uid": self.uid, "groups": [*self.groups], "extra": self.extra}
        return {key: value for key, value in said.items() if value}


ADMIN = User("kubernetes-admin", groups=("system:masters", "system:authenticated"))
ANONYMOUS = User("system:anonymous", groups=("system:unauthenticated",))


@dataclass(frozen=True)
class Action:
    """What somebody wants to do; resources with their subresource, as in `pods/log`."""

    verb: str
    group: str
    resource: str
    namespace: str = ""
    name: str = ""


@dataclass(frozen=True)
class Ban:
    """Forbids what would be allowed; empty: any."""

    verb: str = ""
    resource: str = ""
    namespace: str = ""
    user: str = ""

    def covers(self, user: User, action: Action) -> bool:
        return (
            self.verb in {"", action.verb}
            and self.resource in {"", action.resource}
            and self.namespace in {"", action.namespace}
            and self.user in {"", user.name}
        )


@dataclass(frozen=True)
class _Minted:
    audiences: tuple[str, ...]
    expires: float
    account: tuple[str, str]
    account_uid: str
    pod: tuple[str, str] | None
    """Its name and uid."""
    node: str
    serial: str


class Access:
    """Tokens of service accounts, and what users may do."""

    def __init__(self, storage: Storage, issuer: str) -> None:
        self._storage = storage
        self._issuer = issuer
        self._key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"}, private=True)
        self._minted: dict[str, _Minted] = {}
        self.admin_token = secrets.token_urlsafe(16)
        self.bans: list[Ban] = []
        self.ahead_s = 0.0
        """Time that tests let pass for tokens (s)."""
        self.authority = ""
        """The certificate of the authority that signed the server's (PEM)."""
        self.reviews_work = True
        """False: every TokenReview says that no token is good."""

    @contextmanager
    def forbidden(self, verb: str = "", resource: str = "", namespace: str = "", user: str = "") -> Iterator[None]:
        """Everybody whom this covers is refused meanwhile, the administrator too."""
        ban = Ban(verb, resource, namespace, user)
        self.bans.append(ban)
        try:
            yield
        finally:
            self.bans.remove(ban)

    def now(self) -> float:
        return time.time() + self.ahead_s

    def mint(self, namespace: str, account: Object, spec: Object, pod: Object | None) -> tuple[str, float]:
        """A token of a service account and its end (s since the epoch)."""
        lifetime_s = spec.get("expirationSeconds") or 3600
        audiences = tuple(spec.get("audiences") or [API_AUDIENCE])
        now, name = self.now(), account["metadata"]["name"]
        bound = (pod["metadata"]["name"], pod["metadata"]["uid"]) if pod else None
        claims: Object = {
            "iss": self._issuer,
            "sub": f"system:serviceaccount:{namespace}:{name}",
            "aud": [*audiences],
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now + lifetime_s),
            "jti": secrets.token_hex(16),
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": name, "uid": account["metadata"]["uid"]},
                **({"pod": {"name": bound[0], "uid": bound[1]}} if bound else {}),
            },
        }
        token = jwt.encode({"alg": "ES256", "kid": "fake"}, claims, self._key, algorithms=["ES256"])
        self._minted[token] = _Minted(
            audiences,
            now + lifetime_s,
            (namespace, name),
            account["metadata"]["uid"],
            bound,
            pod["spec"].get("nodeName", "") if pod else "",
            claims["jti"],
        )
        return token, now + lifetime_s

    def user_of(self, token: str, audiences: list[str]) -> tuple[User, list[str]]:
        """The user and the audiences that fit; raises ValueError with what is wrong."""
        if token == self.admin_token:
            return ADMIN, audiences
        minted = self._minted.get(token)
        if minted is None:
            raise ValueError("invalid bearer token")
        fitting = [one for one in audiences if one in minted.audiences]
        if not fitting:
            raise ValueError(
                f"[invalid bearer token, token audiences {_list(minted.audiences)} is invalid "
                f"for the target audiences {_list(audiences)}]"
            )
        if self.now() >= minted.expires:
            raise ValueError("[invalid bearer token, service account token has expired]")
        namespace, name = minted.account
        account = self._storage.get(SERVICE_ACCOUNTS.key, minted.account)
        if account is None or account["metadata"]["uid"] != minted.account_uid:
            raise ValueError("[invalid bearer token, service account token has been invalidated]")
        prefix = "authentication.kubernetes.io/"
        extra = {f"{prefix}credential-id": [f"JTI={minted.serial}"]}
        if minted.pod:
            pod = self._storage.get(PODS.key, (namespace, minted.pod[0]))
            if pod is None or pod["metadata"]["uid"] != minted.pod[1]:
                raise ValueError("[invalid bearer token, service account token has been invalidated]")
            extra |= {f"{prefix}pod-name": [minted.pod[0]], f"{prefix}pod-uid": [minted.pod[1]]}
            if minted.node:
                extra[f"{prefix}node-name"] = [minted.node]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(f"system:serviceaccount:{namespace}:{name}", minted.account_uid, groups, extra), fitting

    def review_token(self, spec: Object) -> Object:
        """The status of a TokenReview."""
        wanted = spec.get("audiences") or [API_AUDIENCE]
        if not self.reviews_work:
            return {"authenticated": False, "user": {}, "error": "invalid bearer token"}
        try:
            user, fitting = self.user_of(spec.get("token", ""), wanted)
        except ValueError as error:
            return {"authenticated": False, "user": {}, "error": str(error)}
        return {"authenticated": True, "user": user.info(), "audiences": fitting}

    def review_access(self, user: User, spec: Object) -> Object:
        """The status of a SelfSubjectAccessReview (or one about somebody else)."""
        if "user" in spec:
            user = User(spec["user"], groups=tuple(spec.get("groups") or ()))
        asked = spec.get("resourceAttributes")
        if asked is None:
            path = (spec.get("nonResourceAttributes") or {}).get("path", "")
            return {"allowed": "system:masters" in user.groups or path in {"/healthz", "/version", "/livez"}}
        resource = asked.get("resource", "")
        if asked.get("subresource"):
            resource += f"/{asked['subresource']}"
        verb, group = asked.get("verb", ""), asked.get("group", "")
        action = Action(verb, group, resource, asked.get("namespace", ""), asked.get("name", ""))
        return {"allowed": True} if self.may(user, action) else {"allowed": False}

    def may(self, user: User, action: Action) -> bool:
        if any(ban.covers(user, action) for ban in self.bans):
            return False
        if "system:masters" in user.groups:
            return True
        asks_of_self = action.verb == "create" and action.resource.startswith("selfsubject")
        return asks_of_self or any(_allows(rule, action) for rule in self._rules(user, action.namespace))

    def _rules(self, user: User, namespace: str) -> Iterator[Object]:
        for binding in self._storage.all_of((RBAC, "clusterrolebindings")):
            if _binds(binding, user, ""):
                yield from self._role(binding["roleRef"], "")
        for binding in self._storage.all_of((RBAC, "rolebindings"), namespace) if namespace else []:
            if _binds(binding, user, namespace):
                yield from self._role(binding["roleRef"], namespace)

    def _role(self, reference: Object, namespace: str) -> list[Object]:
        plural = "clusterroles" if reference["kind"] == "ClusterRole" else "roles"
        place = "" if plural == "clusterroles" else namespace
        role = self._storage.get((RBAC, plural), (place, reference["name"]))
        return (role or {}).get("rules") or []


def _binds(binding: Object, user: User, namespace: str) -> bool:
    for subject in binding.get("subjects") or []:
        kind, name = subject["kind"], subject["name"]
        if kind == "ServiceAccount":
            if user.name == f"system:serviceaccount:{subject.get('namespace', namespace)}:{name}":
                return True
        elif (kind == "User" and name == user.name) or (kind == "Group" and name in user.groups):
            return True
    return False


def _allows(rule: Object, action: Action) -> bool:
    def has(names: str, value: str) -> bool:
        listed: list[Any] = rule.get(names) or []
        return "*" in listed or value in listed

    named = not rule.get("resourceNames") or action.name in rule["resourceNames"]
    sub = action.resource.partition("/")[2]
    resource = has("resources", action.resource) or bool(sub and f"*/{sub}" in (rule.get("resources") or []))
    return named and resource and has("verbs", action.verb) and has("apiGroups", action.group)


def _list(names: Any) -> str:
    return "[" + " ".join(names) + "]"

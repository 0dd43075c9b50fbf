"""Service accounts of Kubernetes: the cluster's API server says whose token it is (TokenReview)."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import structlog

from labd.model.identity import ActorKind
from labd.services.errors import ProviderAway, Unauthenticated
from labd.services.provider_http import ProviderHttp, ProviderUnreachable
from labd.services.providers import Kubernetes, roles_of
from labd.services.rates import Buckets, Rate
from labd.services.sign_in import LASTS_MAX_S, LoginView, Vouched, unproven_claims

REMEMBERED_S = 10.0
"""How long an answer of the API server is good for; so long a deleted account may still get in."""
REMEMBERED_MAX = 4096
RATE = Rate(per_s=20, burst=50)
"""Questions to one API server, whoever causes them."""
ASKING_MAX = 4
"""Of them at once: a slow API server keeps no more of labd's threads busy."""
Json = dict[str, Any]
_log = structlog.get_logger()
_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCOUNT = "system:serviceaccount:"
_POD = "authentication.kubernetes.io/pod-"


@dataclass(frozen=True, slots=True)
class ServiceAccount:
    """Whose token it is, as the API server says."""

    namespace: str
    name: str
    expires_at: float
    """Of the token, in s since the Unix epoch."""
    pod: str | None
    """Name of the pod that the token is bound to; None: to none."""
    pod_uid: str | None


class TokenReviewer:
    """Asks one API server. Threads may share it: they ask so often, and so many at once, and no more."""

    def __init__(self, name: str, audience: str, ask: Callable[[str, str], Json]) -> None:
        """``ask`` gives what the API server says of a token and an audience, the status of a TokenReview, or raises
        ProviderUnreachable, OSError or ValueError.
        """
        self._name = name
        self._audience = audience
        self._ask = ask
        self._questions = Buckets(RATE)
        self._asking = threading.Semaphore(ASKING_MAX)
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, tuple[float, ServiceAccount | str]] = OrderedDict()

    def review(self, token: str, now: float) -> ServiceAccount:
        """Raises Unauthenticated, saying what is wrong with the token; ProviderAway when nobody can tell at present."""
        key = hashlib.sha256(token.encode()).digest()
        with self._lock:
            until, known = self._remembered.get(key, (now, ""))
        if until <= now:
            known = self._reviewed(token, now)
            with self._lock:
                self._remembered[key] = (now + REMEMBERED_S, known)
                if len(self._remembered) > REMEMBERED_MAX:
                    self._remembered.popitem(last=False)
        if isinstance(known, str):
            raise Unauthenticated(known)
        return known

    def _reviewed(self, token: str, now: float) -> ServiceAccount | str:
        """Who it is, or why it is nobody. Raises ProviderAway when the API server cannot be asked."""
        expiry = unproven_claims(token).get("exp")
        if not isinstance(expiry, int | float) or expiry <= now:
            return f"the token of {self._name} has expired, or never does"
        if self._questions.take("", now) or not self._asking.acquire(blocking=False):
            raise ProviderAway(f"too many tokens of {self._name} at once: try again")
        try:
            status = self._ask(token, self._audience)
        except (ProviderUnreachable, OSError, ValueError) as error:
            _log.warning("a cluster does not review tokens", provider=self._name, reason=str(error))
            raise ProviderAway(f"labd cannot ask {self._name} at present: try again") from error
        finally:
            self._asking.release()
        if status.get("authenticated") is not True:
            return f"{self._name} does not know that token"
        if self._audience not in (status.get("audiences") or []):
            return f"the token of {self._name} is not for {self._audience!r}"
        user = status.get("user")
        name = user.get("username") if isinstance(user, dict) else None
        if not isinstance(user, dict) or not isinstance(name, str) or not _is_account(name):
            return f"the token of {self._name} is no service account's"
        _, _, namespace, account = name.split(":")
        return ServiceAccount(namespace, account, expiry, _extra(user, f"{_POD}name"), _extra(user, f"{_POD}uid"))


class TokenReviewProvider:
    """The service accounts of one cluster, as users of the lab."""

    login: LoginView | None = None

    def __init__(self, settings: Kubernetes) -> None:
        self._settings = settings
        self._http = ProviderHttp(settings.ca)
        self._reviewer = TokenReviewer(settings.name, settings.audience, self._ask)

    def issued(self, issuer: str) -> bool:
        """See `Provider`."""
        return issuer == self._settings.issuer

    def vouch(self, token: str, now: float) -> Vouched:
        """See `Provider`."""
        account = self._reviewer.review(token, now)
        claims = {"namespace": account.namespace, "serviceaccount": account.name}
        roles, scopes = roles_of(self._settings.grants, claims)
        name = f"{self._settings.name}:{account.namespace}/{account.name}"
        return Vouched(name, ActorKind.PROGRAM, roles, scopes, min(account.expires_at, now + LASTS_MAX_S))

    def _ask(self, token: str, audience: str) -> Json:
        review = {
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": {"token": token, "audiences": [audience]},
        }
        own = self._settings.token_file.read_text("ascii").strip()
        url = self._settings.url.rstrip("/") + _PATH
        answer = self._http.json("POST", url, body=review, headers={"Authorization": f"Bearer {own}"})
        status = answer.get("status")
        return status if isinstance(status, dict) else {}


def _is_account(name: str) -> bool:
    return name.startswith(_ACCOUNT) and name.count(":") == 3


def _extra(user: Json, key: str) -> str | None:
    """The only value that there is."""
    extra = user.get("extra")
    values = extra.get(key) if isinstance(extra, dict) else None
    return values[0] if isinstance(values, list) and len(values) == 1 and isinstance(values[0], str) else None

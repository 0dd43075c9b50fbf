"""Service accounts of Kubernetes: the cluster's API server says whose token it is (TokenReview)."""

import hashlib
import threading
from collections import OrderedDict

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
"""Questions to the API server, whoever causes them."""
ASKING_MAX = 4
"""Of them at once: a slow API server keeps no more of labd's threads busy."""
_log = structlog.get_logger()
_PATH = "/apis/authentication.k8s.io/v1/tokenreviews"
_ACCOUNT = "system:serviceaccount:"


class TokenReviewProvider:
    """One cluster."""

    login: LoginView | None = None

    def __init__(self, settings: Kubernetes) -> None:
        self._settings = settings
        self._http = ProviderHttp(settings.ca)
        self._questions = Buckets(RATE)
        self._asking = threading.Semaphore(ASKING_MAX)
        self._lock = threading.Lock()
        self._remembered: OrderedDict[bytes, tuple[float, Vouched | str]] = OrderedDict()

    def issued(self, issuer: str) -> bool:
        """See `Provider`."""
        return issuer == self._settings.issuer

    def vouch(self, token: str, now: float) -> Vouched:
        """See `Provider`."""
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

    def _reviewed(self, token: str, now: float) -> Vouched | str:
        """Who it is, or why it is nobody. Raises ProviderAway when the API server cannot be asked."""
        settings = self._settings
        expiry = unproven_claims(token).get("exp")
        if not isinstance(expiry, int | float) or expiry <= now:
            return f"the token of {settings.name} has expired, or never does"
        if self._questions.take("", now) or not self._asking.acquire(blocking=False):
            raise ProviderAway(f"too many tokens of {settings.name} at once: try again")
        try:
            own = settings.token_file.read_text("ascii").strip()
            review = self._http.json(
                "POST",
                settings.url.rstrip("/") + _PATH,
                body={
                    "apiVersion": "authentication.k8s.io/v1",
                    "kind": "TokenReview",
                    "spec": {"token": token, "audiences": [settings.audience]},
                },
                headers={"Authorization": f"Bearer {own}"},
            )
        except (ProviderUnreachable, OSError, ValueError) as error:
            _log.warning("a cluster does not review tokens", provider=settings.name, reason=str(error))
            raise ProviderAway(f"labd cannot ask {settings.name} at present: try again") from error
        finally:
            self._asking.release()
        status = review.get("status")
        if not isinstance(status, dict) or status.get("authenticated") is not True:
            return f"{settings.name} does not know that token"
        if settings.audience not in (status.get("audiences") or []):
            return f"the token of {settings.name} is not for {settings.audience!r}"
        user = status.get("user")
        name = user.get("username") if isinstance(user, dict) else None
        if not isinstance(name, str) or not name.startswith(_ACCOUNT) or name.count(":") != 3:
            return f"the token of {settings.name} is no service account's"
        _, _, namespace, account = name.split(":")
        roles, scopes = roles_of(settings.grants, {"namespace": namespace, "serviceaccount": account})
        return Vouched(
            f"{settings.name}:{namespace}/{account}", ActorKind.PROGRAM, roles, scopes, min(expiry, now + LASTS_MAX_S)
        )

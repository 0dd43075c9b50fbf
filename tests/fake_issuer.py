"""A fake OpenID Connect issuer with real keys: discovery (RFC 8414), keys (RFC 7517), device grant (RFC 8628), refresh.

And a fake of the one call to a Kubernetes API server that labd makes.
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

DEVICE_GRANT = "urn:ietf:params:oauth:grant-type:device_code"


class FakeIssuer:
    """Signs what a test wants signed."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.calls_itself = url
        self.keys: list[RSAKey | ECKey] = []
        self.broken = False
        self.answering = threading.Event()
        """Cleared, it takes its time."""
        self.answering.set()
        self.key_requests = 0
        self.polls: list[str] = []
        """What the token endpoint answers to each question: an OAuth error, or "" for a grant."""
        self.device_claims: dict[str, Any] = {}
        self.expires_in = 3600
        self.refreshes = 0
        self.reviews: dict[str, dict[str, Any]] = {}
        """Status of a TokenReview by token."""
        self.review_requests: list[dict[str, Any]] = []
        self.rotate("first")

    def rotate(self, kid: str, *, keep: bool = False, rsa: bool = False) -> None:
        """Signs with a new key; GitHub, GitLab and Kubernetes sign with RSA."""
        key: RSAKey | ECKey
        if rsa:
            key = RSAKey.generate_key(2048, {"kid": kid, "use": "sig", "alg": "RS256"}, private=True)
        else:
            key = ECKey.generate_key("P-256", {"kid": kid, "use": "sig", "alg": "ES256"}, private=True)
        self.keys = [*self.keys, key] if keep else [key]

    def token(self, *, now: float, lifetime_s: float = 300, **claims: Any) -> str:
        """A token signed with the newest key; a claim of None is left out."""
        full = {"iss": self.calls_itself, "iat": int(now), "exp": int(now + lifetime_s), **claims}
        key = self.keys[-1]
        said = {name: value for name, value in full.items() if value is not None}
        algorithm = str(key.get("alg"))
        return jwt.encode({"alg": algorithm, "kid": key.kid, "typ": "JWT"}, said, key, algorithms=[algorithm])

    def answer(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if self.broken:
            return 500, {}
        self.answering.wait(30)
        if path == "/.well-known/openid-configuration":
            return 200, {
                "issuer": self.calls_itself,
                "jwks_uri": f"{self.url}/keys",
                "token_endpoint": f"{self.url}/token",
                "device_authorization_endpoint": f"{self.url}/device",
            }
        if path == "/keys":
            self.key_requests += 1
            return 200, dict(KeySet(list(self.keys)).as_dict(private=False))
        if path == "/apis/authentication.k8s.io/v1/tokenreviews":
            asked = json.loads(body)
            self.review_requests.append({"body": asked, "authorization": headers.get("authorization")})
            if (asked["apiVersion"], asked["kind"]) != ("authentication.k8s.io/v1", "TokenReview"):
                return 400, {"kind": "Status", "status": "Failure", "reason": "BadRequest", "code": 400}
            if not (headers.get("authorization") or "").startswith("Bearer "):
                return 401, {"kind": "Status", "status": "Failure", "reason": "Unauthorized", "code": 401}
            # As a real API server has it: no member `authenticated` for a token that is not.
            status = self.reviews.get(asked["spec"]["token"], {"user": {}, "error": "[invalid bearer token]"})
            return 201, {**asked, "metadata": {"creationTimestamp": None}, "status": status}
        form = {name: values[0] for name, values in parse_qs(body.decode()).items()}
        if path == "/device" and form.get("client_id") and "openid" in form.get("scope", ""):
            return 200, {
                "device_code": "dev-1",
                "user_code": "WDJB-MJHT",
                "verification_uri": f"{self.url}/activate",
                "expires_in": 600,
                "interval": 1,
            }
        if path == "/token":
            return self._grant(form)
        return 404, {"error": "not_found"}

    def _grant(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        if form.get("grant_type") == DEVICE_GRANT and form.get("device_code") == "dev-1":
            error = self.polls.pop(0) if self.polls else ""
            if error:
                return 400, {"error": error}
        elif form.get("grant_type") == "refresh_token" and form.get("refresh_token", "").startswith("refresh-"):
            self.refreshes += 1
        else:
            return 400, {"error": "invalid_grant"}
        claims = {"aud": form["client_id"], **self.device_claims}
        return 200, {
            "id_token": self.token(now=time.time(), lifetime_s=self.expires_in, **claims),
            "access_token": "opaque",
            "token_type": "Bearer",
            "expires_in": self.expires_in,
            "refresh_token": f"refresh-{self.refreshes}",
        }


@contextmanager
def fake_issuer() -> Iterator[FakeIssuer]:
    """Serves on a free port of loopback."""

    class Handler(BaseHTTPRequestHandler):
        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            status, document = issuer.answer(self.command, self.path, body, headers)
            content = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = _handle

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        issuer = FakeIssuer(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield issuer
        finally:
            server.shutdown()
            thread.join()

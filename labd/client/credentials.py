"""Who this user is to which labd: what `labctl login` has stored, and LABD_TOKEN.

The file is ``labd/credentials.json`` under XDG_CONFIG_HOME (``~/.config``), for its owner only. Tokens of an identity
provider are renewed by themselves for as long as the provider lets them.
"""

import json
import os
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from labd.client.errors import LabError
from labd.client.urls import alike, key

RENEW_BEFORE_S = 60.0
"""A token that expires within this is renewed first."""
ANSWER_BYTES_MAX = 1024 * 1024
PROVIDER_TIMEOUT_S = 10.0


_renewing = threading.Lock()


class SignInError(LabError):
    """The identity provider does not do as it should, or refuses; the message says what it said."""


@dataclass(frozen=True, slots=True)
class Credential:
    """What opens one labd."""

    token: str
    expires_at: float | None = None
    """Seconds since the Unix epoch; None: labd will say."""
    refresh_token: str | None = None
    token_endpoint: str | None = None
    client_id: str | None = None


def credentials_path() -> Path:
    """Where they are stored."""
    base = os.environ.get("XDG_CONFIG_HOME")
    return (Path(base) if base else Path.home() / ".config") / "labd" / "credentials.json"


def stored(url: str) -> Credential | None:
    """What is stored for the labd at ``url``. Raises LabError when the file cannot be read."""
    entries = _read()
    entry = entries.get(key(url)) or next((one for other, one in entries.items() if alike(other, url)), None)
    return None if entry is None else Credential(**entry)


def latest() -> str | None:
    """URL of the labd that somebody has signed in to last, and not out of. Raises LabError like `stored`."""
    return next(reversed(_read()), None)


def store(url: str, credential: Credential | None) -> None:
    """Replaces what is stored for the labd at ``url``, which stays in its place; None forgets it."""
    entries = _read()
    if credential is not None:
        entries[key(url)] = asdict(credential)
    else:
        entries = {other: entry for other, entry in entries.items() if not alike(other, url)}
    path = credentials_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.part")
    part.unlink(missing_ok=True)
    file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        json.dump(entries, stream, indent=1)
    part.replace(path)


def bearer(url: str) -> str | None:
    """The token to show to the labd at ``url``: LABD_TOKEN, or what is stored, renewed if need be.

    Raises SignInError when it has expired and cannot be renewed.
    """
    if given := os.environ.get("LABD_TOKEN"):
        return given
    credential = stored(url)
    if credential is None or _fresh(credential):
        return None if credential is None else credential.token
    with _renewing:
        credential = stored(url) or credential  # another thread may have renewed it
        return (credential if _fresh(credential) else _renewed(url, credential)).token


def _fresh(credential: Credential) -> bool:
    return credential.expires_at is None or credential.expires_at - time.time() >= RENEW_BEFORE_S


def _renewed(url: str, credential: Credential) -> Credential:
    if not (credential.refresh_token and credential.token_endpoint and credential.client_id):
        if credential.expires_at is not None and credential.expires_at > time.time():
            return credential
        raise SignInError(f"the sign-in to {url} has expired: labctl login {url}")
    form = {
        "grant_type": "refresh_token",
        "refresh_token": credential.refresh_token,
        "client_id": credential.client_id,
    }
    status, answer = post_form(credential.token_endpoint, form)
    if status != 200:
        said = answer.get("error_description") or answer.get("error") or f"status {status}"
        raise SignInError(f"the sign-in to {url} cannot be renewed ({said}): labctl login {url}")
    renewed = credential_of(answer, credential.token_endpoint, credential.client_id, credential.refresh_token)
    store(url, renewed)
    return renewed


def credential_of(
    answer: Mapping[str, Any], token_endpoint: str, client_id: str, refresh_token: str | None = None
) -> Credential:
    """What a token endpoint has granted (RFC 6749, 5.1): the ID token is what labd verifies. Raises SignInError."""
    token = answer.get("id_token")
    if not isinstance(token, str):
        raise SignInError(f"{token_endpoint} granted no ID token: labctl asks for the scope openid")
    lifetime = answer.get("expires_in")
    expires_at = time.time() + lifetime if isinstance(lifetime, int | float) else None
    return Credential(token, expires_at, answer.get("refresh_token") or refresh_token, token_endpoint, client_id)


def post_form(url: str, form: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Status and JSON object that the provider answers a form with. Raises SignInError."""
    body = urlencode(form)
    return _exchange("POST", url, body, {"Content-Type": "application/x-www-form-urlencoded"})


def get_json(url: str) -> dict[str, Any]:
    """A JSON object of the provider's. Raises SignInError."""
    status, answer = _exchange("GET", url, None, {})
    if status != 200:
        raise SignInError(f"{url} answers with status {status}")
    return answer


def _exchange(method: str, url: str, body: str | None, headers: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    import urllib3

    timeout = urllib3.Timeout(total=PROVIDER_TIMEOUT_S)
    try:
        with urllib3.PoolManager(retries=False, timeout=timeout) as pool:
            answer = pool.request(
                method,
                url,
                body=body,
                headers={"Accept": "application/json", **headers},
                redirect=False,
                preload_content=False,
            )
            content = answer.read(ANSWER_BYTES_MAX)
            answer.close()
    except urllib3.exceptions.HTTPError as error:
        raise SignInError(f"the identity provider at {url} cannot be reached: {error}") from error
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise SignInError(f"{url} does not answer as an identity provider does: status {answer.status}")
    return answer.status, document


def _read() -> dict[str, dict[str, Any]]:
    path = credentials_path()
    try:
        document = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise LabError(f"{path} cannot be read ({error}): remove it, and sign in again") from error
    return document if isinstance(document, dict) else {}

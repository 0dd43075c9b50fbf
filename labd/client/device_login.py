"""Signing in where there may be no browser: the device authorisation grant (RFC 8628) of an OpenID provider."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from labd.client.credentials import Credential, SignInError, credential_of, get_json, post_form

GRANT = "urn:ietf:params:oauth:grant-type:device_code"
INTERVAL_S = 5.0
"""Between questions, when the provider names none (RFC 8628, 3.2); and by how much `slow_down` lengthens it."""
LONGEST_S = 1800.0
"""However long the provider would wait."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What the user has to do, on any device."""

    url: str
    code: str
    complete_url: str | None
    """With the code in it."""


def sign_in(
    issuer: str,
    client_id: str,
    scope: str,
    show: Callable[[Prompt], None],
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Credential:
    """Waits until the user has approved. Raises SignInError when they refuse, or too much time passes."""
    described = get_json(f"{issuer.rstrip('/')}/.well-known/openid-configuration")
    device, tokens = (_endpoint(described, name) for name in ("device_authorization_endpoint", "token_endpoint"))
    status, started = post_form(device, {"client_id": client_id, "scope": scope})
    if status != 200:
        raise SignInError(f"{issuer} refuses to begin: {_said(status, started)}")
    code = _text(started, "device_code")
    page, complete_page = _text(started, "verification_uri"), started.get("verification_uri_complete")
    show(Prompt(page, _text(started, "user_code"), complete_page))
    deadline = clock() + min(_seconds(started.get("expires_in"), LONGEST_S), LONGEST_S)
    form = {"grant_type": GRANT, "device_code": code, "client_id": client_id}
    pause_s = _seconds(started.get("interval"), INTERVAL_S)
    while clock() + pause_s <= deadline:
        sleep(pause_s)
        status, answer = post_form(tokens, form)
        if status == 200:
            return credential_of(answer, tokens, client_id)
        error = answer.get("error")
        if error == "slow_down":
            pause_s += INTERVAL_S
        elif error != "authorization_pending":
            raise SignInError(f"{issuer} says no: {_said(status, answer)}")
    raise SignInError("nobody approved the sign-in in time")


def _endpoint(described: dict[str, Any], name: str) -> str:
    url = described.get(name)
    if not isinstance(url, str):
        raise SignInError(f"the identity provider has no {name}: it does not know the device authorisation grant")
    return url


def _text(answer: dict[str, Any], name: str) -> str:
    value = answer.get(name)
    if not isinstance(value, str):
        raise SignInError(f"the identity provider's answer has no {name}")
    return value


def _seconds(value: object, default: float) -> float:
    return float(value) if isinstance(value, int | float) and value > 0 else default


def _said(status: int, answer: dict[str, Any]) -> str:
    return str(answer.get("error_description") or answer.get("error") or f"status {status}")

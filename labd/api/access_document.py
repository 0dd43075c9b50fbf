"""What the OpenAPI document says of access: the ways to authenticate, and what each operation needs.

All of it comes from the authorisation table, so that the document cannot promise anything else.
"""

from typing import Any

from labd.model.access import Admits, Reason, Rule, TeamOf

API_TOKEN, PROVIDER_TOKEN, RUN_TOKEN = "apiToken", "providerToken", "runToken"
SCHEMES: dict[str, Any] = {
    API_TOKEN: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "labd_PREFIX_SECRET",
        "description": "An API token of a user of labd's own, as `labctl token create` makes it.",
    },
    PROVIDER_TOKEN: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "An ID token of an OpenID Connect provider, the token of a CI job, or of a Kubernetes service "
        "account, as far as labd trusts who issued it (`GET /api/v1/login` names those that people sign in at).",
    },
    RUN_TOKEN: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "hexadecimal",
        "description": "The token of a run, given to its runner as LABD_RUN_TOKEN: it opens what belongs to that run.",
    },
}
"""Ways to authenticate, as OpenAPI's Security Scheme Objects. A labd that runs with --insecure asks for none."""


def security_of(rule: Rule) -> list[dict[str, list[str]]]:
    """One of these is needed, with the role if there is one; empty: none is."""
    if rule.admits is Admits.PUBLIC:
        return []
    if rule.admits is Admits.RUNNER:
        return [{RUN_TOKEN: []}]
    needed = [str(rule.role)] if rule.admits is Admits.MEMBER else []
    people: list[dict[str, list[str]]] = [{API_TOKEN: needed}, {PROVIDER_TOKEN: needed}]
    return [*people, {RUN_TOKEN: []}] if rule.runner else people


def needs_of(rule: Rule) -> dict[str, Any]:
    """The entry of the authorisation table, for programs: the operation's member ``x-labd-access``."""
    needs: dict[str, Any] = {"who": rule.admits}
    if rule.admits is Admits.MEMBER:
        needs |= {"role": rule.role, "in": rule.team, "scope": rule.scope, "reason": rule.reason}
        needs |= {"holder": rule.own, "runner": rule.runner}
    return needs


def sentence_of(rule: Rule) -> str:
    """The same for people."""
    if rule.admits is Admits.PUBLIC:
        return "Access: everybody."
    if rule.admits is Admits.RUNNER:
        return "Access: the run's runner, with the run's token."
    if rule.admits is Admits.SIGNED_IN:
        return "Access: whoever labd knows."
    where = "any team" if rule.team is TeamOf.ANY else rule.team
    text = f"Access: the role `{rule.role}` in {where}, and the scope `{rule.scope}`"
    if rule.own:
        text += "; for what another holds, the role `operator` and the scope `operate`"
    if rule.runner:
        text += "; or the run's token"
    if rule.reason is Reason.OTHERS:
        text += ". To what is another's, a `reason` is needed"
    elif rule.reason is Reason.ALWAYS:
        text += ". A `reason` is needed"
    return text + "."


def add_access(operation: dict[str, Any], rule: Rule) -> None:
    """Says it in an operation of the document."""
    operation["security"] = security_of(rule)
    operation["x-labd-access"] = needs_of(rule)
    operation["description"] = f"{operation.get('description', '')}\n\n{sentence_of(rule)}".strip()

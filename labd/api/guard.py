"""The guard at the door: who asks, whether they may, and whether they ask too often. Decided before a body is read."""

import asyncio
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from bench_agent.protocol import release
from labd.api import cuts
from labd.api.limits import Limits, Turnstile
from labd.api.operations import find
from labd.api.problems import refusal
from labd.model.access import Admits, Decision, Outcome, Resource, Rule, TeamOf, decide
from labd.model.access_table import REST
from labd.model.identity import ANONYMOUS, WHOLE_LAB, Actor, ActorKind
from labd.services.errors import FieldError, Forbidden, Invalid, NotFound, ProviderAway, ServiceError, Unauthenticated
from labd.services.identities import require_reason
from labd.services.lab import Lab
from labd.services.sign_in import TOKEN_LENGTH_MAX
from labd.store.errors import StoreError
from labd.store.unit import Unit

LOOK_AGAIN_S = 0.5
"""How often it is looked at who follows a stream, and whether they still may: with what is remembered of a token
(`REMEMBERED_S`) it is less than a second until the stream of one that was revoked is cut, by whichever labd."""
REASON_LENGTH_MAX = 500

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Admission:
    """What the guard has found out."""

    operation: str
    """Of the authorisation table."""
    actor: Actor
    reason: str = ""


class Guard:
    """ASGI middleware: passes on what the authorisation table allows."""

    def __init__(self, app: ASGIApp, limits: Limits | None = None, look_again_s: float = LOOK_AGAIN_S) -> None:
        self._app = app
        self._look_again_s = look_again_s
        self._turnstile = Turnstile(limits or Limits())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers 401, 403, 404 or 429 itself."""
        found = find(scope["method"], scope["path"]) if scope["type"] == "http" else None
        if found is None:
            # No route that is listed: the application says that there is none, or `listed` refuses it.
            await self._app(scope, receive, send)
            return
        lab: Lab = scope["app"].state.lab
        scope["path_params"] = found[1]
        if REST[found[0]].admits is not Admits.PUBLIC and (wrong := _other_release(scope)) is not None:
            await refusal(wrong)(scope, receive, send)
            return
        if lab.sign_in is None:
            await self._pass(Admission(found[0], ANONYMOUS, _reason(scope)), scope, receive, send)
            return
        try:
            try:
                admission = await self._admit(lab, scope, *found)
            except Unauthenticated:
                self._turnstile.count_stranger(_address(scope), lab.core.clock.now())
                raise
            with self._turnstile.open(*_keys(scope, admission)):
                if scope["method"] == "GET" or b"wait=" in scope["query_string"]:
                    await self._pass_while_admitted(lab, admission, found[1], scope, receive, send)
                else:
                    await self._pass(admission, scope, receive, send)
        except (ServiceError, StoreError) as error:
            await refusal(error)(scope, receive, send)

    async def _pass(self, admission: Admission, scope: Scope, receive: Receive, send: Send) -> None:
        scope.setdefault("state", {})["admission"] = admission
        await self._app(scope, receive, send)

    async def _pass_while_admitted(
        self, lab: Lab, admission: Admission, names: dict[str, str], scope: Scope, receive: Receive, send: Send
    ) -> None:
        """Cuts a stream, or a wait, when its token is revoked or expires, or its owner's rights change."""
        loop, work, cut = asyncio.get_running_loop(), asyncio.current_task(), False
        stream = cuts.EndableStream(send)

        async def watch() -> None:
            nonlocal cut
            while await asyncio.to_thread(_still_admitted, lab, bearer(scope), admission, names):  # noqa: ASYNC110
                await asyncio.sleep(self._look_again_s)
            if work is not None and not work.done():
                cut = work.cancel()

        watches: list[asyncio.Task[None]] = []
        # Most requests are over by then, and need no task of their own.
        timer = loop.call_later(self._look_again_s, lambda: watches.append(loop.create_task(watch())))
        try:
            await self._pass(admission, scope, receive, stream.send)
        except asyncio.CancelledError:
            if not cut or work is None or work.uncancel():
                raise
            _log.info("stream cut", actor=admission.actor.name, path=scope["path"])
            await stream.cut(cuts.NO_RIGHT)
        finally:
            timer.cancel()
            for one in watches:
                one.cancel()

    async def _admit(self, lab: Lab, scope: Scope, operation: str, names: dict[str, str]) -> Admission:
        """Raises ServiceError."""
        rule = REST[operation]
        token = bearer(scope)
        if rule.admits is Admits.PUBLIC:
            self._turnstile.count_stranger(_address(scope), lab.core.clock.now())
            return Admission(operation, NOBODY)
        resource: Resource | None = None
        actor = None if token is None else lab.sign_in.remembered(token) if lab.sign_in is not None else ANONYMOUS
        if actor is None or rule.team in _RESOURCES:
            actor, resource = await asyncio.to_thread(identify, lab, token, actor, rule, names)
        decision = decide(rule, actor, resource)
        if actor is None:
            raise Unauthenticated(decision.why)
        admission = Admission(operation, actor, _reason(scope))
        self._turnstile.count(*_keys(scope, admission), lab.core.clock.now())
        if decision.outcome is not Outcome.ALLOWED:
            raise _refused(decision, rule, names, scope, actor)
        if decision.needs_reason:
            require_reason(actor, admission.reason, "this")
        return admission


NOBODY = Actor("nobody", ActorKind.PERSON)
"""Who asks for what is public, known or not."""


def bearer(scope: Scope) -> str | None:
    """The token of the header Authorization (RFC 6750). Raises Unauthenticated for one that is no bearer token."""
    header = next((value for name, value in scope["headers"] if name == b"authorization"), None)
    if header is None:
        return None
    scheme, _, token = header.decode("latin-1").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(token) > TOKEN_LENGTH_MAX:
        raise Unauthenticated("the header Authorization has to be: Bearer TOKEN")
    return str(token)


def identify(
    lab: Lab, token: str | None, actor: Actor | None, rule: Rule, names: dict[str, str]
) -> tuple[Actor | None, Resource | None]:
    """Who has the token, and whose it is what the path names. Raises Unauthenticated."""
    resource = None
    if rule.team in _RESOURCES:
        with lab.core.view() as unit:
            resource = _RESOURCES[rule.team](unit, names)
    if token is None or actor is not None or lab.sign_in is None:
        return actor, resource
    run_id = names.get("run_id") if rule.admits is Admits.RUNNER else None
    if rule.runner and resource is not None:
        run_id = resource.run_id
    if run_id is not None and lab.reporting.attempt_of(run_id, token) is not None:
        return Actor(f"run {run_id}", ActorKind.RUN, run_id=run_id), resource
    if rule.admits is Admits.RUNNER and "." not in token and not token.startswith("labd_"):
        raise Forbidden(f"the token is not the one of run {run_id!r}")
    return lab.sign_in.authenticate(token), resource


def _still_admitted(lab: Lab, token: str | None, admission: Admission, names: dict[str, str]) -> bool:
    """Whether the token still is of who was admitted, with the rights that the stream was opened with."""
    if admission.actor is NOBODY:
        return True
    rule = REST[admission.operation]
    try:
        actor, resource = identify(lab, token, None, rule, names)
    except (ProviderAway, StoreError):
        return True  # nobody can tell at present
    except ServiceError:
        return False
    return actor == admission.actor and decide(rule, actor, resource).outcome is Outcome.ALLOWED


def _bench(unit: Unit, names: dict[str, str]) -> Resource | None:
    bench = unit.bench(names["name"])
    return None if bench is None or bench.removed else Resource(bench.owner)


def _team(unit: Unit, names: dict[str, str]) -> Resource | None:
    known = names["team"] == WHOLE_LAB or names["team"] in unit.teams()
    return Resource(names["team"]) if known else None


_RESOURCES: dict[TeamOf, Callable[[Unit, dict[str, str]], Resource | None]] = {
    TeamOf.LEASE: lambda unit, names: unit.lease_resource(names["lease_id"]),
    TeamOf.RUN: lambda unit, names: unit.run_resource(names["run_id"]),
    TeamOf.BENCH: _bench,
    TeamOf.PATH: _team,
}
_NOUNS = {TeamOf.LEASE: ("lease", "lease_id"), TeamOf.RUN: ("run", "run_id"), TeamOf.BENCH: ("bench", "name")}


def _refused(decision: Decision, rule: Rule, names: dict[str, str], scope: Scope, actor: Actor) -> ServiceError:
    _log.info(
        "request refused",
        actor=actor.name,
        address=_address(scope),
        method=scope["method"],
        path=scope["path"],
        why=decision.outcome,
    )
    if decision.outcome is Outcome.HIDDEN:
        noun, name = _NOUNS.get(rule.team, ("team", "team"))
        return NotFound(f"there is no {noun} {names[name]!r}")
    return Forbidden(decision.why)


def _other_release(scope: Scope) -> Invalid | None:
    """Why a client of ours is not served: it may mean something else by what it says, and understand less."""
    name = next((value for name, value in scope["headers"] if name == b"user-agent"), b"").decode("latin-1")
    client, _, version = name.partition("/")
    if client != "labd-client" or release.is_alike(version, release.VERSION):
        return None
    wrong = release.remedy("this client (labctl, or the Python package labd)", version[:40], release.VERSION)
    return Invalid(wrong, FieldError("User-Agent", name[:60], wrong))


def _keys(scope: Scope, admission: Admission) -> tuple[str, str]:
    """By what the limits know a token, and its owner."""
    if admission.actor is NOBODY:
        return (_address(scope),) * 2
    return f"token {hash(bearer(scope))}", f"{admission.actor.kind} {admission.actor.name}"


def _address(scope: Scope) -> str:
    return f"address {scope['client'][0][:64] if scope.get('client') else 'unknown'}"


def _reason(scope: Scope) -> str:
    values: list[str] = parse_qs(scope["query_string"].decode("latin-1")).get("reason", [""])
    return values[0].strip()[:REASON_LENGTH_MAX]


def admission_to(scope: Mapping[str, Any]) -> Admission:
    """What the guard has found out. Raises Forbidden for a route that the authorisation table does not list."""
    admission = scope.get("state", {}).get("admission")
    route = re.sub(r":\w+}", "}", getattr(scope.get("route"), "path", ""))
    if not isinstance(admission, Admission) or not admission.operation.endswith(route):
        raise Forbidden(f"{route} has no entry in the authorisation table (labd/model/access_table.py)")
    return admission

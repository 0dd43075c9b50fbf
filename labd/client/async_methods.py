"""The methods of `AsyncLabClient`. Written by `make client` from those of `LabClient`: change these."""

# ruff: noqa: F401
import functools
import os
from base64 import b64encode
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from itertools import islice
from types import TracebackType
from typing import IO, Any, cast
from urllib.parse import quote

from bench_agent.protocol.identity import CONTROLLER_NAME, AgentTls, Credentials
from labd.client import event_stream, log_stream
from labd.client.async_base import AsyncBase
from labd.client.audit import AuditQuery
from labd.client.credentials import bearer
from labd.client.identities import Identities, with_reason
from labd.client.trust import trusted
from labd.client.types import (
    Agent,
    ApiToken,
    Assignment,
    AuditEntry,
    AuditVerdict,
    Authority,
    Bench,
    Calendar,
    Doctor,
    Environment,
    ExecutorName,
    Figures,
    GitSource,
    Invitation,
    Lease,
    LeaseWhy,
    LoginWays,
    LogLine,
    Member,
    NewApiToken,
    Policy,
    Result,
    Retention,
    Run,
    Secret,
    SharedLease,
    ShareMode,
    Status,
    Swept,
    User,
    WantedBenches,
    WhoAmI,
)
from labd.client.versions import IfMatch, precondition, unlike

DEFAULT_URL = "http://127.0.0.1:8470"
_API = "api/v1"
PAGE_SIZE = 1000
Params = Mapping[str, str | int | Sequence[str]]
LONG_S = 600.0


def filters(**given: str | Sequence[str] | None) -> dict[str, str | Sequence[str]]:
    """The query parameters of a list: those that are given."""
    return {name: value for name, value in given.items() if value}


def _wanted(
    selector: str, benches: Sequence[WantedBenches], same_site: bool, affinity: str, team: str | None
) -> dict[str, object]:
    """What a body says of the benches; what is not asked for is left to labd."""
    wanted: dict[str, object] = {"benches": list(benches)} if benches else {"selector": selector}
    more = {"same_site": same_site, "affinity": affinity, "team": team}
    return wanted | {name: value for name, value in more.items() if value}


def _shown(token: str | Callable[[], str | None] | None) -> Callable[[], str | None] | None:
    return (lambda: token) if isinstance(token, str) else token


def _segment(text: str) -> str:
    return quote(text, safe="")


class AsyncMethods(AsyncBase):
    """One coroutine for each method of `LabClient` that talks to labd once."""

    async def login_ways(self) -> LoginWays:
        """How this labd wants to be signed in to."""
        return cast(LoginWays, await self._get("login"))

    async def whoami(self) -> WhoAmI:
        """Whose token this client shows, and what it may."""
        return cast(WhoAmI, await self._get("whoami"))

    async def users(self) -> list[User]:
        """The users that labd itself knows, by name."""
        return list(await self._items("users", {}))

    async def create_user(self, name: str, kind: str = "person") -> User:
        """Adds a user ("person" or "program") without any role."""
        return cast(User, await self._call("POST", "users", {"name": name, "kind": kind}))

    async def remove_user(self, name: str, reason: str) -> None:
        """Revokes a user's tokens and memberships for good, and ends what they hold."""
        await self._call("DELETE", with_reason(f"users/{_segment(name)}", reason))

    async def teams(self) -> list[str]:
        """The teams that one belongs to; all, for who belongs to the whole lab."""
        return [team["name"] for team in await self._items("teams", {})]

    async def create_team(self, name: str) -> None:
        """Adds a team without members."""
        await self._call("POST", "teams", {"name": name})

    async def remove_team(self, name: str, reason: str) -> None:
        """Forgets a team, and ends its leases, bookings and runs."""
        await self._call("DELETE", with_reason(f"teams/{_segment(name)}", reason))

    async def members(self, team: str) -> list[Member]:
        """Who belongs to a team; to the whole lab for ``*``."""
        return list(await self._items(f"teams/{_segment(team)}/members", {}))

    async def save_member(self, team: str, name: str, role: str) -> Member:
        """Gives somebody a role (viewer, engineer, operator, admin) in a team, or in the whole lab (``*``)."""
        return cast(Member, await self._call("PUT", f"teams/{_segment(team)}/members/{_segment(name)}", {"role": role}))

    async def remove_member(self, team: str, name: str) -> None:
        """Takes somebody out of a team; what they hold by it ends."""
        await self._call("DELETE", f"teams/{_segment(team)}/members/{_segment(name)}")

    async def tokens(self, *, everybody: bool = False) -> list[ApiToken]:
        """One's own API tokens, newest first; with ``everybody`` those of all users."""
        return list(await self._items("tokens", {"all": "true"} if everybody else {}))

    async def create_token(
        self,
        name: str,
        *,
        scopes: Sequence[str] | None = None,
        lifetime_s: float = 90 * 86400,
        owner: str | None = None,
    ) -> NewApiToken:
        """Makes an API token, whose text cannot be asked for again: for oneself, or as an admin for another user."""
        body = {
            "name": name,
            "scopes": None if scopes is None else list(scopes),
            "lifetime_s": lifetime_s,
            "owner": owner,
        }
        return cast(NewApiToken, await self._call("POST", "tokens", body))

    async def revoke_token(self, prefix: str, reason: str = "") -> ApiToken:
        """Ends a token now; one of another takes a reason."""
        return cast(ApiToken, await self._call("DELETE", with_reason(f"tokens/{_segment(prefix)}", reason)))

    async def benches(
        self,
        selector: str | None = None,
        *,
        states: Sequence[str] = (),
        health: Sequence[str] = (),
        holder: str | None = None,
        team: str | None = None,
        agent: str | None = None,
        since: str | None = None,
        until: str | None = None,
    ) -> list[Bench]:
        """The benches whose labels match ``selector`` (Kubernetes' grammar: ``a=b, c in (d,e), !f``), or all, by name.

        ``states`` and ``health``: only in one of them; ``holder``, ``team``, ``agent``: only this one's; ``since`` and
        ``until``: only last heard of then (RFC 3339) or later, and before.
        """
        params = filters(state=states, health=health, holder=holder, team=team, agent=agent, since=since, until=until)
        return list(await self._items("benches", params | filters(selector=selector)))

    async def bench(self, name: str) -> Bench:
        """One bench by name."""
        return cast(Bench, await self._get(f"benches/{_segment(name)}"))

    async def calendar(self, name: str, duration_s: float = 3600) -> Calendar:
        """Who has a bench when, and from when on it is free for ``duration_s``."""
        return cast(Calendar, await self._get(f"benches/{_segment(name)}/calendar", {"duration_s": str(duration_s)}))

    async def clear_quarantine(self, name: str, reason: str = "", *, if_match: IfMatch = None) -> Bench:
        """Has the bench's agent bring it to its safe state again, and end the quarantine if that works.

        Returns the bench as it was before; ask again for the outcome.
        """
        path = with_reason(f"benches/{_segment(name)}/clear-quarantine", reason)
        return cast(Bench, await self._call("POST", path, None, if_match))

    async def drain_bench(self, name: str, reason: str = "", *, if_match: IfMatch = None) -> Bench:
        """Keeps new leases from a bench; a present one ends as planned."""
        path = with_reason(f"benches/{_segment(name)}/drain", reason)
        return cast(Bench, await self._call("PUT", path, None, if_match))

    async def undrain_bench(self, name: str, reason: str = "", *, if_match: IfMatch = None) -> Bench:
        """Lets a bench be leased again, unless its agent is drained."""
        path = with_reason(f"benches/{_segment(name)}/drain", reason)
        return cast(Bench, await self._call("DELETE", path, None, if_match))

    async def drain_agent(self, name: str, reason: str = "") -> Agent:
        """Keeps new leases from all benches of an agent, with those that it attaches later."""
        return cast(Agent, await self._call("PUT", with_reason(f"agents/{_segment(name)}/drain", reason)))

    async def undrain_agent(self, name: str, reason: str = "") -> Agent:
        """Ends the draining of an agent; benches that are drained by themselves stay so."""
        return cast(Agent, await self._call("DELETE", with_reason(f"agents/{_segment(name)}/drain", reason)))

    async def policy(self) -> Policy:
        """Who may ask for what, how much of it, and for how long."""
        return cast(Policy, await self._get("policy"))

    async def put_policy(self, document: Policy | Mapping[str, Any], *, if_match: IfMatch) -> Policy:
        """Sets another policy as a whole; what the document leaves out has its default.

        ``lab.put_policy({**seen, "ageing_bound_s": 3600}, if_match=seen)`` after ``seen = lab.policy()``: ProblemError
        (412) when somebody has changed it meanwhile. ``"*"`` overwrites whatever there is.
        """
        return cast(Policy, await self._call("PUT", "policy", dict(document), if_match))

    async def create_lease(
        self,
        *,
        selector: str = "",
        benches: Sequence[WantedBenches] = (),
        same_site: bool = False,
        affinity: str = "",
        holder: str,
        team: str | None = None,
        duration_s: float = 3600,
        ttl_s: float = 30,
        priority: str = "normal",
        held: bool = False,
        avoid: Sequence[str] = (),
        starts_at: str | None = None,
        wait_s: float = 0,
    ) -> Lease:
        """Asks for a bench that matches ``selector``: QUEUED until one is free, then GRANTED, and ACTIVE once it is
        used. ``benches`` asks for several, all or none of them: ``[{"selector": "platform=meb", "count": 2}]``.

        It ends ``duration_s`` after it was granted at the latest, and ``ttl_s`` after the last heartbeat, waiting or
        granted. Refused at once when no known bench can ever match.

        With ``wait_s`` (60 at most) the answer comes once it is no longer QUEUED, or when that time is over, or half
        of ``ttl_s``: then it needs a heartbeat.
        """
        body: dict[str, object] = {
            "holder": holder,
            "duration_s": duration_s,
            "ttl_s": ttl_s,
            "priority": priority,
        } | _wanted(selector, benches, same_site, affinity, team)
        more = {"held": held, "avoid": list(avoid), "starts_at": starts_at}
        body |= {name: value for name, value in more.items() if value}
        return cast(Lease, await self._call("POST", "leases", body, wait_s=wait_s))

    async def lease(self, lease_id: str, *, seen: Lease | None = None, wait_s: float = 0) -> Lease:
        """One lease, with its tokens while it is held.

        With ``wait_s`` (60 at most) the answer comes once it is another version than the one that was ``seen``, an
        earlier answer about this lease, or when that time is over; while it is the same version, ``seen`` is returned
        itself. Waiting is no heartbeat.
        """
        return cast(Lease, await self._look(f"leases/{_segment(lease_id)}", seen, wait_s))

    async def leases(
        self,
        *states: str,
        holder: str | None = None,
        team: str | None = None,
        selector: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = None,
    ) -> list[Lease]:
        """The newest ``limit`` leases, or all, without tokens: newest first, those that wait in the queue's order.

        ``states``: only those in one of them (QUEUED, GRANTED, ACTIVE, ENDING, ENDED); ``holder``, ``team``: only this
        one's; ``selector``: only with a bench whose labels match; ``since`` and ``until``: only created then (RFC 3339)
        or later, and before.
        """
        params = filters(state=states, holder=holder, team=team, selector=selector, since=since, until=until)
        leases: list[Lease] = list(islice(await self._items("leases", params), limit))
        return sorted(leases, key=lambda lease: lease["position"] or 0)

    async def heartbeat(self, lease_id: str) -> Lease:
        """Keeps a waiting or held lease alive for another TTL; the answer carries the tokens of a held one."""
        return cast(Lease, await self._call("POST", f"leases/{_segment(lease_id)}/heartbeat"))

    async def why(self, lease_id: str) -> LeaseWhy:
        """Why a lease waits: its place, who is ahead, what keeps each bench from it, and the start to expect."""
        return cast(LeaseWhy, await self._get(f"leases/{_segment(lease_id)}/why"))

    async def extend(self, lease_id: str, by_s: float, *, if_match: IfMatch = None) -> Lease:
        """Puts the hard end of a held lease off; the tokens in the answer are good until then."""
        return cast(Lease, await self._call("POST", f"leases/{_segment(lease_id)}/extend", {"by_s": by_s}, if_match))

    async def transfer(self, lease_id: str, holder: str, team: str | None = None, *, if_match: IfMatch = None) -> Lease:
        """Gives a lease to somebody else; the tokens of the former holder are refused from then on."""
        body = {"holder": holder} | ({"team": team} if team else {})
        return cast(Lease, await self._call("POST", f"leases/{_segment(lease_id)}/transfer", body, if_match))

    async def share(
        self, lease_id: str, holder: str, mode: ShareMode = "observer", *, if_match: IfMatch = None
    ) -> SharedLease:
        """Lets somebody look on, or act ("co-driver"), beside the holder; the tokens in the answer are for them."""
        body = {"holder": holder, "mode": mode}
        return cast(SharedLease, await self._call("POST", f"leases/{_segment(lease_id)}/shares", body, if_match))

    async def unshare(self, lease_id: str, holder: str, reason: str = "", *, if_match: IfMatch = None) -> Lease:
        """Takes a share back: agents end their calls at once, and refuse their tokens.

        An operator who does so to another's lease says why.
        """
        path = f"leases/{_segment(lease_id)}/shares/{_segment(holder)}"
        return cast(Lease, await self._call("DELETE", with_reason(path, reason), None, if_match))

    async def release(self, lease_id: str, reason: str = "", *, if_match: IfMatch = None) -> Lease:
        """Ends a lease, or takes it out of the queue. Releasing an ended one changes nothing.

        An operator who takes it from another says why.
        """
        return cast(
            Lease, await self._call("DELETE", with_reason(f"leases/{_segment(lease_id)}", reason), None, if_match)
        )

    async def agent_tls(self, lease_id: str, bench: str) -> AgentTls | None:
        """What a `BenchClient` needs to reach the agent of a bench of this lease, which is GRANTED: a new certificate.

        None when labd is reached without TLS: it runs with ``--insecure`` then, and so do its agents.
        """
        if not self.url.lower().startswith("https:"):
            return None
        from bench_agent.protocol.certificates import new_request

        mine = new_request("")
        body = {"request": mine.request.decode()}
        made = await self._call("POST", f"leases/{_segment(lease_id)}/certificate", body)
        credentials = Credentials(mine.key, made["certificate"].encode(), made["trust"].encode())
        return AgentTls(credentials, made["servers"][bench])

    async def agents(self, *states: str, since: str | None = None, until: str | None = None) -> list[Agent]:
        """Every agent that was invited or is attached, by name.

        ``states``: only in one of them (invited, enrolled, revoked, unproved); ``since`` and ``until``: only last heard
        of then (RFC 3339) or later, and before.
        """
        return list(await self._items("agents", filters(state=states, since=since, until=until)))

    async def agent(self, name: str) -> Agent:
        """One agent by name."""
        return cast(Agent, await self._get(f"agents/{_segment(name)}"))

    async def invite_agent(self, name: str, lifetime_s: float = 3600) -> Invitation:
        """Makes a one-time token with which the agent can enrol within ``lifetime_s``; a former one is void."""
        body = {"lifetime_s": lifetime_s}
        return cast(Invitation, await self._call("POST", f"agents/{_segment(name)}/invite", body))

    async def revoke_agent(self, name: str, reason: str) -> Agent:
        """Ends an agent's stream, the leases of its benches, and its right to come back; ``reason`` is kept."""
        path = f"{_API}/agents/{_segment(name)}"
        return cast(Agent, self._http.json(await self._http.request("DELETE", path, params={"reason": reason})))

    async def authority(self) -> Authority:
        """labd's certificate authority. Trust it only if the fingerprint is the one that you were told."""
        return cast(Authority, await self._get("authority"))

    async def create_run(
        self,
        *,
        script: str | None = None,
        git: GitSource | None = None,
        name: str | None = None,
        files: Mapping[str, str] | None = None,
        selector: str = "",
        benches: Sequence[WantedBenches] = (),
        same_site: bool = False,
        affinity: str = "",
        holder: str | None = None,
        team: str | None = None,
        priority: str = "normal",
        timeout_s: float = 300,
        executor: ExecutorName | None = None,
        cluster: str | None = None,
        data_files: Mapping[str, bytes] | None = None,
        environment: str | None = None,
        idempotency_key: str | None = None,
    ) -> Run:
        """Submits a Lua scenario, the ``script`` itself or one in ``git``. ``files`` are further Lua files by path
        relative to the script, for ``require``, and ``data_files`` what else it names, such as a log to replay (at most
        16 MiB together).

        ``timeout_s`` counts from the moment that the run starts. The script runs beside labd (``executor`` "process"),
        on the bench's own machine, beside the bus ("bench"), or in a pod ("kubernetes") of that ``cluster``, else of
        the default one; where its team's runs do, if nothing is said. It is given the variables and secrets of the
        ``environment``. Its holder is whoever asks, unless told otherwise.

        Sent again with the same ``idempotency_key`` within a day, by another process too, it is the same run.
        """
        body: dict[str, object] = {
            "files": dict(files or {}),
            "holder": holder,
            "priority": priority,
            "timeout_s": timeout_s,
        } | _wanted(selector, benches, same_site, affinity, team)
        optional = {"script": script, "git": git, "name": name, "executor": executor, "cluster": cluster}
        optional["environment"] = environment
        body |= {field: value for field, value in optional.items() if value is not None}
        if data_files:
            body["data_files"] = {path: b64encode(content).decode() for path, content in data_files.items()}
        return cast(Run, await self._call("POST", "runs", body, key=idempotency_key))

    async def run(self, run_id: str, *, seen: Run | None = None, wait_s: float = 0) -> Run:
        """One run; with ``wait_s`` (60 at most) once it is another version than was ``seen``, as for `lease`."""
        return cast(Run, await self._look(f"runs/{_segment(run_id)}", seen, wait_s))

    async def runs(
        self,
        *states: str,
        holder: str | None = None,
        team: str | None = None,
        selector: str | None = None,
        since: str | None = None,
        until: str | None = None,
        limit: int | None = 50,
    ) -> list[Run]:
        """The newest ``limit`` runs (None: all), newest first; filtered like `leases`.

        States are PENDING, RUNNING, PASSED, FAILED, ERROR, CANCELLED.
        """
        params = filters(state=states, holder=holder, team=team, selector=selector, since=since, until=until)
        return list(islice(await self._items("runs", params, limit), limit))

    async def run_again(self, run_id: str, holder: str | None = None) -> Run:
        """Submits what a run that is over executed once more; it keeps away from benches on which that ended in ERROR,
        where others do as well.
        """
        body = {"holder": holder} if holder else {}
        return cast(Run, await self._call("POST", f"runs/{_segment(run_id)}/again", body))

    async def cancel_run(self, run_id: str, reason: str = "", *, if_match: IfMatch = None) -> Run:
        """Stops a run, or takes it out of the queue. An operator who stops another's says why."""
        return cast(
            Run, await self._call("POST", with_reason(f"runs/{_segment(run_id)}/cancel", reason), None, if_match)
        )

    async def result(self, run_id: str) -> Result:
        """The result document of an ended run."""
        return cast(Result, await self._get(f"runs/{_segment(run_id)}/result"))

    async def junit(self, run_id: str) -> str:
        """The result of an ended run as JUnit XML."""
        return (await self._http.request("GET", f"{_API}/runs/{_segment(run_id)}/junit")).decode(errors="replace")

    async def secrets(self) -> list[Secret]:
        """The secrets of your teams, without their values."""
        return await self._items("secrets", {})

    async def set_secret(self, name: str, value: str, *, team: str | None = None) -> Secret:
        """Adds a secret, or gives it another value."""
        return cast(Secret, await self._put(f"secrets/{_segment(name)}", {"value": value}, filters(team=team)))

    async def remove_secret(self, name: str, *, team: str | None = None) -> None:
        """Removes a secret that no environment has any more."""
        await self._delete(f"secrets/{_segment(name)}", filters(team=team))

    async def environments(self) -> list[Environment]:
        """The environments of your teams."""
        return await self._items("environments", {})

    async def environment(self, name: str, *, team: str | None = None) -> Environment:
        """One environment."""
        return cast(Environment, await self._get(f"environments/{_segment(name)}", filters(team=team)))

    async def put_environment(
        self,
        name: str,
        variables: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        *,
        team: str | None = None,
        if_match: IfMatch = None,
    ) -> Environment:
        """Adds an environment, or replaces it as a whole; ``secrets`` are names of secrets by variable."""
        body = {"variables": dict(variables or {}), "secrets": dict(secrets or {})}
        return cast(Environment, await self._put(f"environments/{_segment(name)}", body, filters(team=team), if_match))

    async def remove_environment(self, name: str, *, team: str | None = None, if_match: IfMatch = None) -> None:
        """Removes an environment; its secrets stay."""
        await self._delete(f"environments/{_segment(name)}", filters(team=team), if_match)

    async def retention(self) -> Retention:
        """What is kept for how long."""
        return cast(Retention, await self._get("retention"))

    async def set_retention(self, rules: Retention, *, if_match: IfMatch) -> Retention:
        """Replaces the rules as a whole; ``if_match`` as for `put_policy`."""
        return cast(Retention, await self._put("retention", rules, {}, if_match))

    async def preview_retention(self, rules: Retention) -> Swept:
        """What these rules would remove now."""
        return cast(Swept, await self._call("POST", "retention/preview", rules))

    async def sweep_retention(self) -> Swept:
        """Removes what is not to be kept, now."""
        body = await self._http.request("POST", f"{_API}/retention/sweep", timeout_s=LONG_S)
        return cast(Swept, self._http.json(body))

    async def status(self) -> Status:
        """How the labd that answers does, and what it has cut off since it started."""
        return cast(Status, await self._get("status"))

    async def doctor(self) -> Doctor:
        """What the labd that answers finds of itself and of what it depends on, and what to do about it."""
        return cast(Doctor, await self._get("doctor"))

    async def series(
        self,
        measurement: str,
        field: str,
        *,
        tags: Mapping[str, str] | None = None,
        since: str | None = None,
        until: str | None = None,
        step_s: int | None = None,
        aggregate: str | None = None,
        limit: int = 50,
    ) -> Figures:
        """Figures of the last 24 hours: one field of the series that have these ``tags``; of the last hour by default.

        ``since`` and ``until``: RFC 3339. ``step_s``: the seconds that a point stands for, a multiple of 10.
        ``aggregate``: mean, sum, min, max, last or count of the values in a step. At most ``limit`` series.
        """
        given = filters(since=since, until=until, aggregate=aggregate, step_s=None if step_s is None else str(step_s))
        tag = [f"{name}={value}" for name, value in (tags or {}).items()]
        params = given | filters(measurement=measurement, field=field, tag=tag, limit=str(limit))
        return cast(Figures, await self._get("series", params))

    async def audit(self, query: AuditQuery | None = None, limit: int | None = None) -> list[AuditEntry]:
        """What was done, newest first unless the query says otherwise; up to ``limit`` entries, or all."""
        return list(islice(await self._items("audit", (query or AuditQuery()).params(), limit), limit))

    async def verify_audit(self, expected: str | None = None) -> AuditVerdict:
        """Whether the audit log is what was written; ``expected`` is the ``head`` of an earlier verification."""
        params = {"expected": expected} if expected else None
        body = await self._http.request("GET", f"{_API}/audit/verify", params=params, timeout_s=LONG_S)
        return cast(AuditVerdict, self._http.json(body))

    async def assignment(self, run_id: str) -> Assignment:
        """What to execute, and where."""
        return cast(Assignment, await self._get(f"runs/{_segment(run_id)}/assignment"))

    async def runner_token(self, run_id: str, attempt: int) -> str:
        """The token of an attempt of a run, for the test pod that executes it: this client's token is the one of the
        pod's service account.
        """
        return str((await self._call("POST", f"runs/{_segment(run_id)}/runner-token", {"attempt": attempt}))["token"])

    async def data_file(self, run_id: str, path: str) -> bytes:
        """What is in a data file of the run."""
        return await self._http.request("GET", f"{_API}/runs/{_segment(run_id)}/data-files/{quote(path)}")

    async def record_commit(self, run_id: str, commit: str) -> Run:
        """As the runner of a run: what the revision of its Git source was when it was fetched."""
        return cast(Run, await self._call("PUT", f"runs/{_segment(run_id)}/commit", {"commit": commit}))

    async def append_log(self, run_id: str, first_seq: int, lines: Sequence[Mapping[str, str]]) -> int:
        """Hands over log lines (``time``, ``level``, ``text``), numbered from ``first_seq`` on.

        Returns the highest sequence number that labd has stored. Lines that it has already are ignored, so that a
        batch may be sent again; a gap is refused (409).
        """
        body = {"first_seq": first_seq, "lines": [dict(line) for line in lines]}
        answer = await self._call("POST", f"runs/{_segment(run_id)}/log", body)
        return int(answer["acknowledged"])

    async def put_result(self, run_id: str, document: Result | Mapping[str, Any], junit: str) -> None:
        """Hands over the result: the document and JUnit XML."""
        body = {"document": document, "junit": junit}
        await self._http.request("PUT", f"{_API}/runs/{_segment(run_id)}/result", json=body)

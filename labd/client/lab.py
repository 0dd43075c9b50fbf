"""LabClient: one method for each route of the REST API."""

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
from labd.client.audit import AuditQuery
from labd.client.credentials import bearer
from labd.client.identities import Identities, with_reason
from labd.client.trust import trusted
from labd.client.types import (
    Agent,
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
    LogLine,
    Policy,
    Result,
    Retention,
    Run,
    Secret,
    SharedLease,
    ShareMode,
    Status,
    Swept,
    WantedBenches,
)
from labd.client.versions import IfMatch, precondition, unlike

DEFAULT_URL = "http://127.0.0.1:8470"
_API = "api/v1"
PAGE_SIZE = 1000
"""Items asked for at once."""
Params = Mapping[str, str | int | Sequence[str]]
LONG_S = 600.0
"""How long labd may take over what goes through a whole table."""


class LabClient(Identities):
    """A client of one labd. Threads may share it.

    Every method raises `LabUnreachable` when labd does not answer within ``timeout_s``, `ProblemError` when it refuses
    (its message names what is wrong), and `UnexpectedAnswer` when the URL is not labd's. ``token`` is a bearer
    token: of a user, or of a run, which the runner-only routes ask for; or a function that tells it for each request,
    as tokens in files are renewed. Without it: LABD_TOKEN, or what ``labctl login`` has stored for the URL.

    Changes take ``if_match``, the thing as this client last answered it: they are made to that version only, and are
    refused (ProblemError 412) when it is another by now.

    ``url`` may name several labds of one lab, with commas: the next one is asked when one does not answer. The first to
    be asked is a random one, or with ``in_order`` the first.

    ``ca`` (or LABD_CA) is the file of the authorities (PEM) that labd's certificate is verified by; without it, what
    ``labctl login --fingerprint`` has stored for the URL, or those of the system. ``server_name`` (or
    LABD_SERVER_NAME) is the name that the certificate has to show; without it, the URL's host.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        token: str | Callable[[], str | None] | None = None,
        timeout_s: float = 10,
        ca: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        in_order: bool = False,
    ) -> None:
        from labd.client.transport import Transport  # here for the sake of `labctl --help`, which needs no HTTP

        ca = ca or os.environ.get("LABD_CA") or None
        server_name = server_name or os.environ.get("LABD_SERVER_NAME") or None
        if ca is None and url.lower().startswith("https:") and (ca := trusted(url)) is not None:
            server_name = CONTROLLER_NAME  # by which labd's own authority knows it, whatever its address
        self._http = Transport(
            url,
            bearer=_shown(token) or functools.partial(bearer, url),
            timeout_s=timeout_s,
            ca=ca,
            server_name=server_name,
            in_order=in_order,
        )

    @property
    def url(self) -> str:
        """Where labd is, without a slash at the end."""
        return self._http.url

    def __enter__(self) -> "LabClient":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def signed_in(self) -> bool:
        """Whether there is a token to show."""
        return self._http.signed_in

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    # Benches

    def benches(
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
        return list(self._items("benches", params | filters(selector=selector)))

    def bench(self, name: str) -> Bench:
        """One bench by name."""
        return cast(Bench, self._get(f"benches/{_segment(name)}"))

    def calendar(self, name: str, duration_s: float = 3600) -> Calendar:
        """Who has a bench when, and from when on it is free for ``duration_s``."""
        return cast(Calendar, self._get(f"benches/{_segment(name)}/calendar", {"duration_s": str(duration_s)}))

    def clear_quarantine(self, name: str, reason: str = "", *, if_match: IfMatch = None) -> Bench:
        """Has the bench's agent bring it to its safe state again, and end the quarantine if that works.

        Returns the bench as it was before; ask again for the outcome.
        """
        path = with_reason(f"benches/{_segment(name)}/clear-quarantine", reason)
        return cast(Bench, self._call("POST", path, None, if_match))

    def drain_bench(self, name: str, reason: str = "", *, if_match: IfMatch = None) -> Bench:
        """Keeps new leases from a bench; a present one ends as planned."""
        path = with_reason(f"benches/{_segment(name)}/drain", reason)
        return cast(Bench, self._call("PUT", path, None, if_match))

    def undrain_bench(self, name: str, reason: str = "", *, if_match: IfMatch = None) -> Bench:
        """Lets a bench be leased again, unless its agent is drained."""
        path = with_reason(f"benches/{_segment(name)}/drain", reason)
        return cast(Bench, self._call("DELETE", path, None, if_match))

    def drain_agent(self, name: str, reason: str = "") -> Agent:
        """Keeps new leases from all benches of an agent, with those that it attaches later."""
        return cast(Agent, self._call("PUT", with_reason(f"agents/{_segment(name)}/drain", reason)))

    def undrain_agent(self, name: str, reason: str = "") -> Agent:
        """Ends the draining of an agent; benches that are drained by themselves stay so."""
        return cast(Agent, self._call("DELETE", with_reason(f"agents/{_segment(name)}/drain", reason)))

    # The policy

    def policy(self) -> Policy:
        """Who may ask for what, how much of it, and for how long."""
        return cast(Policy, self._get("policy"))

    def put_policy(self, document: Policy | Mapping[str, Any], *, if_match: IfMatch) -> Policy:
        """Sets another policy as a whole; what the document leaves out has its default.

        ``lab.put_policy({**seen, "ageing_bound_s": 3600}, if_match=seen)`` after ``seen = lab.policy()``: ProblemError
        (412) when somebody has changed it meanwhile. ``"*"`` overwrites whatever there is.
        """
        return cast(Policy, self._call("PUT", "policy", dict(document), if_match))

    # Leases

    def create_lease(
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
        return cast(Lease, self._call("POST", "leases", body, wait_s=wait_s))

    def lease(self, lease_id: str, *, seen: Lease | None = None, wait_s: float = 0) -> Lease:
        """One lease, with its tokens while it is held.

        With ``wait_s`` (60 at most) the answer comes once it is another version than the one that was ``seen``, an
        earlier answer about this lease, or when that time is over; while it is the same version, ``seen`` is returned
        itself. Waiting is no heartbeat.
        """
        return cast(Lease, self._look(f"leases/{_segment(lease_id)}", seen, wait_s))

    def leases(
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
        leases: list[Lease] = list(islice(self._items("leases", params), limit))
        return sorted(leases, key=lambda lease: lease["position"] or 0)

    def follow_lease(self, lease_id: str) -> Generator[Lease, None, Lease]:
        """The lease as it is and each time it changes, other than by heartbeats; the generator returns the ended one.

        A broken connection is resumed; states that came and went meanwhile are left out.
        """
        last = yield from event_stream.follow(self._http, f"{_API}/leases/{_segment(lease_id)}/events")
        return cast(Lease, last)

    def follow_leases(
        self,
        *states: str,
        holder: str | None = None,
        team: str | None = None,
        selector: str | None = None,
        since: str | None = None,
    ) -> Iterator[Lease]:
        """The leases there are, without their tokens, and from then on each one that changes, for ever.

        Filtered like `leases`. After a broken connection all come once more.
        """
        return event_stream.follow_all(
            self._http,
            f"{_API}/leases/events",
            filters(state=states, holder=holder, team=team, selector=selector, since=since),
            lambda: self.leases(*states, holder=holder, team=team, selector=selector, since=since),
        )

    def heartbeat(self, lease_id: str) -> Lease:
        """Keeps a waiting or held lease alive for another TTL; the answer carries the tokens of a held one."""
        return cast(Lease, self._call("POST", f"leases/{_segment(lease_id)}/heartbeat"))

    def why(self, lease_id: str) -> LeaseWhy:
        """Why a lease waits: its place, who is ahead, what keeps each bench from it, and the start to expect."""
        return cast(LeaseWhy, self._get(f"leases/{_segment(lease_id)}/why"))

    def extend(self, lease_id: str, by_s: float, *, if_match: IfMatch = None) -> Lease:
        """Puts the hard end of a held lease off; the tokens in the answer are good until then."""
        return cast(Lease, self._call("POST", f"leases/{_segment(lease_id)}/extend", {"by_s": by_s}, if_match))

    def transfer(self, lease_id: str, holder: str, team: str | None = None, *, if_match: IfMatch = None) -> Lease:
        """Gives a lease to somebody else; the tokens of the former holder are refused from then on."""
        body = {"holder": holder} | ({"team": team} if team else {})
        return cast(Lease, self._call("POST", f"leases/{_segment(lease_id)}/transfer", body, if_match))

    def share(
        self, lease_id: str, holder: str, mode: ShareMode = "observer", *, if_match: IfMatch = None
    ) -> SharedLease:
        """Lets somebody look on, or act ("co-driver"), beside the holder; the tokens in the answer are for them."""
        body = {"holder": holder, "mode": mode}
        return cast(SharedLease, self._call("POST", f"leases/{_segment(lease_id)}/shares", body, if_match))

    def unshare(self, lease_id: str, holder: str, reason: str = "", *, if_match: IfMatch = None) -> Lease:
        """Takes a share back: agents end their calls at once, and refuse their tokens.

        An operator who does so to another's lease says why.
        """
        path = f"leases/{_segment(lease_id)}/shares/{_segment(holder)}"
        return cast(Lease, self._call("DELETE", with_reason(path, reason), None, if_match))

    def release(self, lease_id: str, reason: str = "", *, if_match: IfMatch = None) -> Lease:
        """Ends a lease, or takes it out of the queue. Releasing an ended one changes nothing.

        An operator who takes it from another says why.
        """
        return cast(Lease, self._call("DELETE", with_reason(f"leases/{_segment(lease_id)}", reason), None, if_match))

    def agent_tls(self, lease_id: str, bench: str) -> AgentTls | None:
        """What a `BenchClient` needs to reach the agent of a bench of this lease, which is GRANTED: a new certificate.

        None when labd is reached without TLS: it runs with ``--insecure`` then, and so do its agents.
        """
        if not self.url.lower().startswith("https:"):
            return None
        from bench_agent.protocol.certificates import new_request  # cryptography takes 50 ms

        mine = new_request("")
        body = {"request": mine.request.decode()}
        made = self._call("POST", f"leases/{_segment(lease_id)}/certificate", body)
        credentials = Credentials(mine.key, made["certificate"].encode(), made["trust"].encode())
        return AgentTls(credentials, made["servers"][bench])

    # Agents

    def agents(self, *states: str, since: str | None = None, until: str | None = None) -> list[Agent]:
        """Every agent that was invited or is attached, by name.

        ``states``: only in one of them (invited, enrolled, revoked, unproved); ``since`` and ``until``: only last heard
        of then (RFC 3339) or later, and before.
        """
        return list(self._items("agents", filters(state=states, since=since, until=until)))

    def agent(self, name: str) -> Agent:
        """One agent by name."""
        return cast(Agent, self._get(f"agents/{_segment(name)}"))

    def invite_agent(self, name: str, lifetime_s: float = 3600) -> Invitation:
        """Makes a one-time token with which the agent can enrol within ``lifetime_s``; a former one is void."""
        body = {"lifetime_s": lifetime_s}
        return cast(Invitation, self._call("POST", f"agents/{_segment(name)}/invite", body))

    def revoke_agent(self, name: str, reason: str) -> Agent:
        """Ends an agent's stream, the leases of its benches, and its right to come back; ``reason`` is kept."""
        path = f"{_API}/agents/{_segment(name)}"
        return cast(Agent, self._http.json(self._http.request("DELETE", path, params={"reason": reason})))

    def authority(self) -> Authority:
        """labd's certificate authority. Trust it only if the fingerprint is the one that you were told."""
        return cast(Authority, self._get("authority"))

    # Runs

    def create_run(
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
        return cast(Run, self._call("POST", "runs", body, key=idempotency_key))

    def run(self, run_id: str, *, seen: Run | None = None, wait_s: float = 0) -> Run:
        """One run; with ``wait_s`` (60 at most) once it is another version than was ``seen``, as for `lease`."""
        return cast(Run, self._look(f"runs/{_segment(run_id)}", seen, wait_s))

    def runs(
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
        return list(islice(self._items("runs", params, limit), limit))

    def run_again(self, run_id: str, holder: str | None = None) -> Run:
        """Submits what a run that is over executed once more; it keeps away from benches on which that ended in ERROR,
        where others do as well.
        """
        body = {"holder": holder} if holder else {}
        return cast(Run, self._call("POST", f"runs/{_segment(run_id)}/again", body))

    def cancel_run(self, run_id: str, reason: str = "", *, if_match: IfMatch = None) -> Run:
        """Stops a run, or takes it out of the queue. An operator who stops another's says why."""
        return cast(Run, self._call("POST", with_reason(f"runs/{_segment(run_id)}/cancel", reason), None, if_match))

    def follow_run(self, run_id: str) -> Generator[Run, None, Run]:
        """The run as it is and each time it changes; the generator returns it once it is over."""
        last = yield from event_stream.follow(self._http, f"{_API}/runs/{_segment(run_id)}/events")
        return cast(Run, last)

    def follow_log(self, run_id: str, after: int = 0) -> Generator[LogLine, None, Run]:
        """The log from line ``after`` + 1 on, as it grows, until the run has ended; the generator returns the run.

        A broken connection is resumed where it broke; LabUnreachable comes after `log_stream.ATTEMPTS` fruitless
        attempts in a row.
        """
        return (yield from log_stream.follow(self._http, self._log(run_id), after=after, until_now=False))

    def log(self, run_id: str, after: int = 0) -> Generator[LogLine, None, None]:
        """The log from line ``after`` + 1 on, up to its present end."""
        yield from log_stream.follow(self._http, self._log(run_id), after=after, until_now=True)

    def result(self, run_id: str) -> Result:
        """The result document of an ended run."""
        return cast(Result, self._get(f"runs/{_segment(run_id)}/result"))

    def junit(self, run_id: str) -> str:
        """The result of an ended run as JUnit XML."""
        return self._http.request("GET", f"{_API}/runs/{_segment(run_id)}/junit").decode(errors="replace")

    # Environments

    def secrets(self) -> Iterator[Secret]:
        """The secrets of your teams, without their values."""
        return self._items("secrets", {})

    def set_secret(self, name: str, value: str, *, team: str | None = None) -> Secret:
        """Adds a secret, or gives it another value."""
        return cast(Secret, self._put(f"secrets/{_segment(name)}", {"value": value}, filters(team=team)))

    def remove_secret(self, name: str, *, team: str | None = None) -> None:
        """Removes a secret that no environment has any more."""
        self._delete(f"secrets/{_segment(name)}", filters(team=team))

    def environments(self) -> Iterator[Environment]:
        """The environments of your teams."""
        return self._items("environments", {})

    def environment(self, name: str, *, team: str | None = None) -> Environment:
        """One environment."""
        return cast(Environment, self._get(f"environments/{_segment(name)}", filters(team=team)))

    def put_environment(
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
        return cast(Environment, self._put(f"environments/{_segment(name)}", body, filters(team=team), if_match))

    def remove_environment(self, name: str, *, team: str | None = None, if_match: IfMatch = None) -> None:
        """Removes an environment; its secrets stay."""
        self._delete(f"environments/{_segment(name)}", filters(team=team), if_match)

    # Retention

    def retention(self) -> Retention:
        """What is kept for how long."""
        return cast(Retention, self._get("retention"))

    def set_retention(self, rules: Retention, *, if_match: IfMatch) -> Retention:
        """Replaces the rules as a whole; ``if_match`` as for `put_policy`."""
        return cast(Retention, self._put("retention", rules, {}, if_match))

    def preview_retention(self, rules: Retention) -> Swept:
        """What these rules would remove now."""
        return cast(Swept, self._call("POST", "retention/preview", rules))

    def sweep_retention(self) -> Swept:
        """Removes what is not to be kept, now."""
        body = self._http.request("POST", f"{_API}/retention/sweep", timeout_s=LONG_S)
        return cast(Swept, self._http.json(body))

    # Backups

    def backup(self, target: IO[bytes], passphrase: str | None = None) -> None:
        """Writes a backup to the file; with a passphrase, labd's keys are sealed into it."""
        headers = {} if passphrase is None else {"Labd-Passphrase": passphrase}
        self._http.download(f"{_API}/backup", target, headers=headers, timeout_s=LONG_S)

    # labd itself

    def status(self) -> Status:
        """How the labd that answers does, and what it has cut off since it started."""
        return cast(Status, self._get("status"))

    def doctor(self) -> Doctor:
        """What the labd that answers finds of itself and of what it depends on, and what to do about it."""
        return cast(Doctor, self._get("doctor"))

    def series(
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
        return cast(Figures, self._get("series", params))

    # The audit log

    def audit(self, query: AuditQuery | None = None, limit: int | None = None) -> Iterator[AuditEntry]:
        """What was done, newest first unless the query says otherwise; up to ``limit`` entries, or all."""
        return islice(self._items("audit", (query or AuditQuery()).params(), limit), limit)

    def verify_audit(self, expected: str | None = None) -> AuditVerdict:
        """Whether the audit log is what was written; ``expected`` is the ``head`` of an earlier verification."""
        params = {"expected": expected} if expected else None
        body = self._http.request("GET", f"{_API}/audit/verify", params=params, timeout_s=LONG_S)
        return cast(AuditVerdict, self._http.json(body))

    # For runners only; these need the run's token.

    def assignment(self, run_id: str) -> Assignment:
        """What to execute, and where."""
        return cast(Assignment, self._get(f"runs/{_segment(run_id)}/assignment"))

    def runner_token(self, run_id: str, attempt: int) -> str:
        """The token of an attempt of a run, for the test pod that executes it: this client's token is the one of the
        pod's service account.
        """
        return str(self._call("POST", f"runs/{_segment(run_id)}/runner-token", {"attempt": attempt})["token"])

    def data_file(self, run_id: str, path: str) -> bytes:
        """What is in a data file of the run."""
        return self._http.request("GET", f"{_API}/runs/{_segment(run_id)}/data-files/{quote(path)}")

    def record_commit(self, run_id: str, commit: str) -> Run:
        """As the runner of a run: what the revision of its Git source was when it was fetched."""
        return cast(Run, self._call("PUT", f"runs/{_segment(run_id)}/commit", {"commit": commit}))

    def append_log(self, run_id: str, first_seq: int, lines: Sequence[Mapping[str, str]]) -> int:
        """Hands over log lines (``time``, ``level``, ``text``), numbered from ``first_seq`` on.

        Returns the highest sequence number that labd has stored. Lines that it has already are ignored, so that a
        batch may be sent again; a gap is refused (409).
        """
        body = {"first_seq": first_seq, "lines": [dict(line) for line in lines]}
        answer = self._call("POST", f"runs/{_segment(run_id)}/log", body)
        return int(answer["acknowledged"])

    def put_result(self, run_id: str, document: Result | Mapping[str, Any], junit: str) -> None:
        """Hands over the result: the document and JUnit XML."""
        body = {"document": document, "junit": junit}
        self._http.request("PUT", f"{_API}/runs/{_segment(run_id)}/result", json=body)

    def _log(self, run_id: str) -> str:
        return f"{_API}/runs/{_segment(run_id)}/log"

    def _get(self, path: str, params: Params | None = None) -> Any:
        return self._http.json(self._http.request("GET", f"{_API}/{path}", params=params))

    def _look(self, path: str, seen: Mapping[str, Any] | None, wait_s: float) -> Any:
        """A thing once it is another version than ``seen``, or as it is after ``wait_s``: then ``seen`` itself."""
        params = {"wait": str(wait_s)} if wait_s else None
        answer = self._http.request("GET", f"{_API}/{path}", params=params, headers=unlike(seen), more_s=wait_s)
        return self._http.json(answer) if answer else seen

    def _items(self, path: str, filters: Mapping[str, str | Sequence[str]], limit: int | None = None) -> Iterator[Any]:
        """The items of a list, from as many pages as it takes."""
        params: dict[str, str | int | Sequence[str]] = {**filters, "limit": min(limit or PAGE_SIZE, PAGE_SIZE)}
        while True:
            page = self._get(path, params)
            yield from page["items"]
            if page["next"] is None:
                return
            params["cursor"] = page["next"]

    def _call(
        self,
        method: str,
        path: str,
        body: object | None = None,
        if_match: IfMatch = None,
        *,
        wait_s: float = 0,
        key: str | None = None,
    ) -> Any:
        params = {"wait": str(wait_s)} if wait_s else None
        headers = precondition(if_match) | ({"Idempotency-Key": key} if key else {})
        answer = self._http.request(method, f"{_API}/{path}", params=params, json=body, headers=headers, more_s=wait_s)
        return self._http.json(answer) if answer else None

    def _put(self, path: str, body: object, params: Params, if_match: IfMatch = None) -> Any:
        headers = precondition(if_match)
        return self._http.json(self._http.request("PUT", f"{_API}/{path}", params=params, json=body, headers=headers))

    def _delete(self, path: str, params: Params, if_match: IfMatch = None) -> None:
        self._http.request("DELETE", f"{_API}/{path}", params=params, headers=precondition(if_match))


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

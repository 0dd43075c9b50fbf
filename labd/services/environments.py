"""Environments and secrets: kept for teams, given to the runs that name them, masked in what those write."""

import json
from collections import OrderedDict
from threading import Lock

from labd.model.environment import Environment, Given, SecretInfo, name_fault, value_fault, variable_fault
from labd.model.identity import Actor, Role
from labd.model.masking import Mask
from labd.services.core import Core
from labd.services.errors import Conflict, FieldError, Forbidden, Invalid, NotFound
from labd.services.ledger import Ledger
from labd.services.vault import SecretUnreadable, Vault
from labd.store.unit import Unit

_MASKS_KEPT = 64
"""Masks of runs kept ready: making one takes some ms."""


class Environments:
    """The use cases of environments and secrets."""

    def __init__(self, core: Core, vault: Vault) -> None:
        self._core = core
        self._vault = vault
        self._lock = Lock()
        self._masks: OrderedDict[str, Mask] = OrderedDict()

    # Secrets

    def secrets(self, actor: Actor) -> list[SecretInfo]:
        """Those of the actor's teams, without their values."""
        with self._core.view() as unit:
            return [secret for secret in unit.secrets() if actor.may(Role.VIEWER, secret.team)]

    def set_secret(self, actor: Actor, team: str, name: str, value: str) -> SecretInfo:
        """Adds a secret or gives it another value. Raises Forbidden and Invalid; neither says the value."""
        _require_role(actor, team)
        _check("name", name, name_fault(name))
        fault = value_fault(value)
        if fault is not None:
            raise Invalid(f"secret {name!r}: {fault}", FieldError("value", None, fault))
        with self._core.transaction(actor) as ledger:
            info = SecretInfo(team, name, ledger.now, actor.name)
            known = ledger.unit.sealed_secret(team, name) is not None
            ledger.unit.save_secret(info, self._vault.seal(value, _place(team, name)))
            ledger.audit("secret.changed" if known else "secret.added", f"secret/{name}", team=team)
        return info

    def remove_secret(self, actor: Actor, team: str, name: str) -> None:
        """Raises Forbidden; NotFound; Conflict while an environment has it."""
        _require_role(actor, team)
        with self._core.transaction(actor) as ledger:
            users = [
                one.name for one in ledger.unit.environments() if one.team == team and name in one.secrets.values()
            ]
            if users:
                raise Conflict(f"secret {name!r} is in use by the environment {', '.join(users)}")
            if not ledger.unit.remove_secret(team, name):
                raise NotFound(f"team {team!r} has no secret {name!r}")
            ledger.audit("secret.removed", f"secret/{name}", team=team)

    # Environments

    def environments(self, actor: Actor) -> list[Environment]:
        """Those of the actor's teams."""
        with self._core.view() as unit:
            return [one for one in unit.environments() if actor.may(Role.VIEWER, one.team)]

    def environment(self, actor: Actor, team: str, name: str) -> Environment:
        """One of them. Raises NotFound."""
        with self._core.view() as unit:
            return self._find(unit, actor, team, name)

    def put_environment(self, actor: Actor, environment: Environment, *, new: bool = False) -> Environment:
        """Adds it or, unless it must be ``new``, replaces the one of its name. Raises Forbidden, Invalid, Conflict."""
        team, name = environment.team, environment.name
        _require_role(actor, team)
        _check("name", name, name_fault(name))
        for group in ("variables", "secrets"):
            for variable in getattr(environment, group):
                _check(f"{group}.{variable}", variable, variable_fault(variable))
        twice = sorted(environment.variables.keys() & environment.secrets.keys())
        if twice:
            _check(f"secrets.{twice[0]}", twice[0], "there is a variable of this name")
        with self._core.transaction(actor) as ledger:
            known = ledger.unit.environment(team, name)
            if new and known is not None:
                raise Conflict(f"team {team!r} has an environment {name!r} already")
            there = {secret.name for secret in ledger.unit.secrets() if secret.team == team}
            for variable, secret in environment.secrets.items():
                if secret not in there:
                    message = f"team {team!r} has no such secret; it has {', '.join(sorted(there)) or 'none'}"
                    _check(f"secrets.{variable}", secret, message)
            ledger.unit.save_environment(environment)
            ledger.audit(
                "environment.added" if known is None else "environment.changed",
                f"environment/{name}",
                before=None if known is None else _names(known),
                after=_names(environment),
                team=team,
            )
        return environment

    def remove_environment(self, actor: Actor, team: str, name: str) -> None:
        """Raises Forbidden and NotFound. Runs that wait for a bench with it will end as ERROR."""
        _require_role(actor, team)
        with self._core.transaction(actor) as ledger:
            known = self._find(ledger.unit, actor, team, name)
            ledger.unit.remove_environment(team, name)
            ledger.audit("environment.removed", f"environment/{name}", before=_names(known), team=team)

    def _find(self, unit: Unit, actor: Actor, team: str, name: str) -> Environment:
        found = unit.environment(team, name)
        if found is None or not actor.may(Role.VIEWER, team):
            known = ", ".join(
                one.name for one in unit.environments() if one.team == team and actor.may(Role.VIEWER, team)
            )
            raise NotFound(f"team {team!r} has no environment {name!r}; it has {known or 'none'}")
        return found

    # Runs

    def promise(self, ledger: Ledger, run_id: str, team: str, name: str) -> None:
        """The new run is to get this environment of its team. Raises Forbidden and Invalid."""
        if not ledger.actor.may(Role.ENGINEER, team):
            raise Forbidden(f"{ledger.actor.name} may not run anything with the environments of team {team!r}")
        if ledger.unit.environment(team, name) is None:
            known = ", ".join(one.name for one in ledger.unit.environments() if one.team == team)
            message = f"team {team!r} has no environment {name!r}; it has {known or 'none'}"
            raise Invalid(message, FieldError("environment", name, message))
        ledger.unit.add_run_environment(run_id, team, name)

    def give(self, run_id: str) -> Given:
        """What the run gets: the same however often it asks. Raises Conflict when it cannot be had any more."""
        with self._core.view() as unit:
            promised = unit.run_environment(run_id)
        if promised is None:
            return Given()
        team, name, sealed = promised
        if sealed is not None:
            return self._opened(run_id, sealed)
        with self._core.transaction() as ledger:
            environment = ledger.unit.environment(team, name)
            if environment is None:
                raise Conflict(f"the environment {name!r} of team {team!r} was removed before run {run_id} began")
            secrets = {
                variable: self._secret(ledger.unit, team, secret) for variable, secret in environment.secrets.items()
            }
            given = Given(environment.variables, secrets)
            text = json.dumps({"variables": given.variables, "secrets": given.secrets})
            ledger.unit.seal_run_environment(run_id, self._vault.seal(text, _place_of_run(run_id)))
            ledger.audit("environment.given", f"run/{run_id}", after=_names(environment), team=team)
        return given

    def mask(self, run_id: str) -> Mask:
        """What has to be kept out of what the run writes."""
        with self._lock:
            mask = self._masks.get(run_id)
        if mask is not None:
            return mask
        with self._core.view() as unit:
            promised = unit.run_environment(run_id)
        given = Given() if promised is None or promised[2] is None else self._opened(run_id, promised[2])
        mask = Mask(given.secrets.values())
        if promised is None or promised[2] is not None:
            with self._lock:
                self._masks[run_id] = mask
                while len(self._masks) > _MASKS_KEPT:
                    self._masks.popitem(last=False)
        return mask

    def _opened(self, run_id: str, sealed: bytes) -> Given:
        try:
            return Given(**json.loads(self._vault.open(sealed, _place_of_run(run_id))))
        except SecretUnreadable as error:
            raise Conflict(str(error)) from error

    def _secret(self, unit: Unit, team: str, name: str) -> str:
        sealed = unit.sealed_secret(team, name)
        if sealed is None:
            raise Conflict(f"team {team!r} has no secret {name!r} any more")
        try:
            return self._vault.open(sealed, _place(team, name))
        except SecretUnreadable as error:
            raise Conflict(str(error)) from error


def seal_anew(unit: Unit, vault: Vault) -> int:
    """Seals everything with the vault's first key; returns how many values. Raises SecretUnreadable."""
    secrets = unit.secrets()
    for info in secrets:
        place = _place(info.team, info.name)
        sealed = unit.sealed_secret(info.team, info.name)
        if sealed is not None:
            unit.save_secret(info, vault.seal(vault.open(sealed, place), place))
    given = unit.given_environments()
    for run_id, sealed in given.items():
        place = _place_of_run(run_id)
        unit.seal_run_environment(run_id, vault.seal(vault.open(sealed, place), place))
    return len(secrets) + len(given)


def _place(team: str, name: str) -> str:
    return f"secret {team}/{name}"


def _place_of_run(run_id: str) -> str:
    return f"the environment of run {run_id}"


def _names(environment: Environment) -> dict[str, object]:
    """What goes into the audit log: no values, not even those of mere variables."""
    return {
        "environment": environment.name,
        "variables": sorted(environment.variables),
        "secrets": dict(sorted(environment.secrets.items())),
    }


def _require_role(actor: Actor, team: str) -> None:
    if not actor.may(Role.ENGINEER, team):
        raise Forbidden(f"{actor.name} may not change the environments and secrets of team {team!r}")


def _check(field: str, value: str, fault: str | None) -> None:
    if fault is not None:
        raise Invalid(f"{field} is {value!r}: {fault}", FieldError(field, value, fault))

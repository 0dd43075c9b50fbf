"""The policy, read and replaced as a whole."""

from dataclasses import asdict

from labd.model.identity import Actor
from labd.model.policy import Policy
from labd.services.core import Core
from labd.services.errors import FieldError, Invalid


class Policing:
    """The use cases of the policy."""

    def __init__(self, core: Core) -> None:
        self._core = core

    def policy(self) -> Policy:
        """As it is now."""
        with self._core.view() as unit:
            return unit.policy()

    def replace(self, actor: Actor, policy: Policy) -> Policy:
        """Sets another policy; it holds for whoever asks from now on, and for the order of those who wait.

        Raises Invalid, with all that does not fit together.
        """
        errors = [FieldError(one.field, one.value, one.message) for one in policy.mistakes()]
        if errors:
            raise Invalid("; ".join(f"{one.field} {one.value!r}: {one.message}" for one in errors), *errors)
        with self._core.transaction(actor) as ledger:
            before, after = asdict(ledger.policy), asdict(policy)
            ledger.unit.save_policy(policy)
            changed = [name for name in after if before[name] != after[name]]
            ledger.audit(
                "policy.changed",
                "policy/lab",
                before={name: before[name] for name in changed},
                after={name: after[name] for name in changed},
            )
            ledger.effects.queue = True
            ledger.schedule()
        return policy

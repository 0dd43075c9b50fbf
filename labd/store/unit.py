"""A unit of work: everything that one transaction may ask of the database, in the model's words."""

from labd.store.units.agents import Agents
from labd.store.units.audit import Audit
from labd.store.units.audit_retention import AuditRetaining
from labd.store.units.environments import Environments
from labd.store.units.idempotency import Idempotency
from labd.store.units.identities import Identities
from labd.store.units.keys import Keys
from labd.store.units.present import Present
from labd.store.units.retention import Retaining
from labd.store.units.run_pods import RunPods
from labd.store.units.runs import Runs


class Unit(
    Agents, Audit, AuditRetaining, Environments, Idempotency, Identities, Keys, Present, Retaining, RunPods, Runs
):
    """One open transaction."""

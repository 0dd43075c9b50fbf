"""A unit of work: everything that one transaction may ask of the database, in the model's words."""

from labd.store.units.agents import Agents
from labd.store.units.audit import Audit
from labd.store.units.benches import Benches
from labd.store.units.environments import Environments
from labd.store.units.idempotency import Idempotency
from labd.store.units.identities import Identities
from labd.store.units.leases import Leases
from labd.store.units.policy import Policies
from labd.store.units.replicas import Replicas
from labd.store.units.runs import Runs
from labd.store.units.usage import Usage


class Unit(
    Agents,
    Audit,
    Benches,
    Environments,
    Idempotency,
    Identities,
    Leases,
    Policies,
    Replicas,
    Runs,
    Usage,
):
    """One open transaction."""

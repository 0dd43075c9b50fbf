"""The tables. Times are seconds since the Unix epoch. Migrations in ``migrations/versions`` create and change them."""

from labd.store.tables.agents import agent_drains, agents
from labd.store.tables.audit import audit, audit_checkpoints, audit_gaps, audit_head
from labd.store.tables.benches import benches
from labd.store.tables.environments import environments, run_environments, secrets
from labd.store.tables.idempotency import idempotency_keys
from labd.store.tables.identities import api_tokens, memberships, teams, users, vouched
from labd.store.tables.leases import lease_benches, lease_shares, leases
from labd.store.tables.metadata import metadata
from labd.store.tables.policy import policy
from labd.store.tables.replicas import attachments, lab, replicas
from labd.store.tables.retention import retention
from labd.store.tables.run_pods import run_pods
from labd.store.tables.runs import contents, run_attempts, run_data_files, run_inputs, run_log, run_results, runs
from labd.store.tables.standing import standing
from labd.store.tables.usage import usage

__all__ = [
    "agent_drains",
    "agents",
    "api_tokens",
    "attachments",
    "audit",
    "audit_checkpoints",
    "audit_gaps",
    "audit_head",
    "benches",
    "contents",
    "environments",
    "idempotency_keys",
    "lab",
    "lease_benches",
    "lease_shares",
    "leases",
    "memberships",
    "metadata",
    "policy",
    "replicas",
    "retention",
    "run_attempts",
    "run_data_files",
    "run_environments",
    "run_inputs",
    "run_log",
    "run_pods",
    "run_results",
    "runs",
    "secrets",
    "standing",
    "teams",
    "usage",
    "users",
    "vouched",
]

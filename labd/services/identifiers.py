"""Identifiers of leases and runs: short enough to type, too many to guess."""

import secrets

LEASE, RUN = "l-", "r-"
"""How they begin."""


def new_lease_id() -> str:
    """For example ``l-5f3a9c01d2e4``."""
    return f"{LEASE}{secrets.token_hex(6)}"


def new_run_id() -> str:
    """For example ``r-0b6e7715c9aa``."""
    return f"{RUN}{secrets.token_hex(6)}"

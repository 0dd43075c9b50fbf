"""Identifiers of leases and runs: short enough to type, too many to guess."""

import secrets


def new_lease_id() -> str:
    """For example ``l-5f3a9c01d2e4``."""
    return f"l-{secrets.token_hex(6)}"


def new_run_id() -> str:
    """For example ``r-0b6e7715c9aa``."""
    return f"r-{secrets.token_hex(6)}"

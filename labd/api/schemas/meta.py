"""What labd says of itself."""

from typing import Any, Literal

from pydantic import BaseModel


class Version(BaseModel):
    """Which labd this is."""

    version: str


class HealthReport(BaseModel):
    """labd answers, and its database does."""

    status: Literal["ok"]


class JsonWebKeySet(BaseModel):
    """The public keys that sign lease tokens (RFC 7517)."""

    keys: list[dict[str, Any]]

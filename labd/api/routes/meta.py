"""labd itself."""

from labd.api import schemas
from labd.api.context import LabOf
from labd.api.problems import responses
from labd.api.routing import Router
from labd.api.version import VERSION
from labd.model.filters import Filter

router = Router(tags=["labd"])
well_known = Router(prefix="/.well-known", tags=["labd"])


@router.get("/healthz", responses=responses(), summary="Whether labd works")
def get_health(lab: LabOf) -> schemas.HealthReport:
    """Answers when the database does."""
    lab.running.newest(Filter(), 1)
    return schemas.HealthReport(status="ok")


@router.get("/version", summary="Which labd this is")
def get_version() -> schemas.Version:
    """The version of the daemon."""
    return schemas.Version(version=VERSION)


@well_known.get("/jwks.json", summary="The keys that sign lease tokens")
def get_keys(lab: LabOf) -> schemas.JsonWebKeySet:
    """A JWK set (RFC 7517); the tokens are JWTs signed with Ed25519."""
    return schemas.JsonWebKeySet.model_validate_json(lab.core.signer.jwks)

"""labd itself."""

from dataclasses import asdict

from bench_agent.protocol.release import VERSION
from labd.api import cuts, schemas
from labd.api.context import LabOf
from labd.api.problems import responses
from labd.api.routing import Router
from labd.api.times import to_text
from labd.model.filters import Filter

router = Router(tags=["labd"])
well_known = Router(prefix="/.well-known", root="", tags=["labd"])


@router.get("/healthz", responses=responses(), summary="Whether labd works")
def get_health(lab: LabOf) -> schemas.HealthReport:
    """Answers when the database does."""
    lab.running.newest(Filter(), 1)
    return schemas.HealthReport(status="ok")


@router.get("/version", summary="Which labd this is")
def get_version() -> schemas.Version:
    """The version of the daemon."""
    return schemas.Version(version=VERSION)


@router.get("/status", responses=responses(), summary="How labd does")
def get_status(lab: LabOf) -> schemas.Status:
    """Of the labd that answers: others of the same lab have counts of their own."""
    return schemas.Status(
        version=VERSION,
        started_at=to_text(lab.started_at),
        agents=len(lab.fleet.sessions()),
        cut=dict(sorted(cuts.counted.items())),
    )


@router.get("/doctor", responses=responses(), summary="What is wrong with the lab, and what to do about it")
def get_doctor(lab: LabOf) -> schemas.Doctor:
    """Looks at the database, the disk, agents and their clocks, certificates, InfluxDB and clusters.

    Of the labd that answers: others of the same lab have disks and connections of their own.
    """
    return schemas.Doctor(checks=[schemas.Check(**asdict(check)) for check in lab.doctor.checks()])


@well_known.get("/jwks.json", summary="The keys that sign lease tokens")
def get_keys(lab: LabOf) -> schemas.JsonWebKeySet:
    """A JWK set (RFC 7517); the tokens are JWTs signed with Ed25519."""
    return schemas.JsonWebKeySet.model_validate_json(lab.core.signer.jwks)

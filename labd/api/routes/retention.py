"""Retention: what is kept for how long."""

from dataclasses import asdict

from labd.api import schemas
from labd.api.context import ActorOf, LabOf
from labd.api.idempotency import REPEATABLE, SLOW
from labd.api.preconditions import WHOLE
from labd.api.problems import body_responses, responses
from labd.api.routing import Router
from labd.model import retention as model

router = Router(prefix="/retention", tags=["policy"])


@router.get("", responses=responses(), summary="What is kept for how long")
def get_retention(lab: LabOf) -> schemas.Retention:
    """Null: for ever."""
    return _answer(lab.retaining.retention())


@router.put("", openapi_extra=WHOLE, responses=body_responses(), summary="Keep for another time")
def put_retention(lab: LabOf, actor: ActorOf, wish: schemas.Retention) -> schemas.Retention:
    """Replaces the rules as a whole; labd removes what they do not keep within the hour."""
    return _answer(lab.retaining.replace(actor, model.retention_of(wish.model_dump())))


@router.post("/preview", responses=body_responses(), openapi_extra=REPEATABLE, summary="What would be removed")
def preview_retention(lab: LabOf, wish: schemas.Retention) -> schemas.Swept:
    """By these rules, now. Nothing is changed."""
    return schemas.Swept(**asdict(lab.retaining.preview(model.retention_of(wish.model_dump()))))


@router.post("/sweep", responses=responses(), openapi_extra=SLOW, summary="Remove what is not to be kept")
def sweep(lab: LabOf, actor: ActorOf) -> schemas.Swept:
    """Now, instead of within the hour."""
    return schemas.Swept(**asdict(lab.retaining.sweep(actor)))


def _answer(retention: model.Retention) -> schemas.Retention:
    return schemas.Retention.model_validate(asdict(retention))

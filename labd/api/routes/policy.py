"""The lab's policy."""

from dataclasses import asdict

from labd.api import schemas
from labd.api.context import ActorOf, LabOf
from labd.api.preconditions import WHOLE
from labd.api.problems import body_responses, responses
from labd.api.routing import Router
from labd.model import policy as model

router = Router(prefix="/policy", tags=["policy"])


@router.get("", responses=responses(), summary="The policy")
def get_policy(lab: LabOf) -> schemas.Policy:
    """Who may ask for what, how much of it, and for how long."""
    return _answer(lab.policing.policy())


@router.put("", openapi_extra=WHOLE, responses=body_responses(), summary="Set another policy")
def put_policy(lab: LabOf, actor: ActorOf, wish: schemas.Policy) -> schemas.Policy:
    """Replaces the policy as a whole; it holds for whoever asks from now on, and for the order of those who wait."""
    return _answer(lab.policing.replace(actor, model.policy_of(wish.model_dump())))


def _answer(policy: model.Policy) -> schemas.Policy:
    return schemas.Policy.model_validate(asdict(policy), strict=False)

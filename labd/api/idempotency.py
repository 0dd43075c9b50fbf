"""`Idempotency-Key`: a change that is sent again with its key acts once and is answered alike, for a day."""

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from hashlib import sha256
from typing import Annotated

from fastapi import Depends, Header, Response

from labd.api.calling import Received
from labd.api.context import ActorOf
from labd.api.guard import NOBODY
from labd.api.problems import refusal
from labd.services.errors import ServiceError
from labd.services.idempotency import KeyedRequest
from labd.services.lab import Lab
from labd.store.errors import KeyTaken

REPEATABLE = {"x-repeatable": True}
"""`openapi_extra` of a change that does nothing more when it is sent again, by its nature: no answer is kept for it,
and it is answered as things are by then, unless it comes with an `If-Match`. Heartbeats come too often, to keep each
one's for a day."""
SLOW = {"x-slow": True}
"""`openapi_extra` of a POST that takes many transactions, to let others have their turn: its answer is kept once it is
done, and until then a repetition goes on with what is left."""
_REPLAYED = "Idempotent-Replayed"


def _keyed(
    request: Received,
    actor: ActorOf,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=200,
            pattern=r"^[\x21-\x7e]+$",
            description="Chosen by the client, best a UUID: sent again with the same key within a day, the request "
            "acts once and is answered alike. With another request it is refused (422), while the first is worked on "
            "too (409).",
            examples=["5f1d7a84-3c0e-4b52-9d51-7a1f3f0e6c2b"],
        ),
    ] = None,
) -> KeyedRequest | None:
    if key is None:
        return None
    head = [request.method, request.url.path, request.url.query, request.headers.get("content-type", "")]
    content = json.dumps(head).encode() + b"\n" + request.content
    # Strangers have no keys of their own: theirs is one with the request, or anybody could take it from them.
    owner = f"stranger {sha256(content).hexdigest()}" if actor is NOBODY else f"{actor.kind} {actor.name}"
    return KeyedRequest(actor, owner, key, content)


KeyedOf = Annotated[KeyedRequest | None, Depends(_keyed)]


def answer_once(lab: Lab, request: KeyedRequest, act: Callable[[], Response], *, slow: bool = False) -> Response:
    """The answer that the request got before, or else what ``act`` answers, in one transaction with its effect (or
    after it, when it is ``slow``).

    An answer is kept when something was done, refusals after it included, and when ``act`` refused nothing. A refusal
    that undid everything is not: the request may be sent again. Few requests come again, so the transaction finds out
    as it begins which one does: none pays for a look beforehand.
    """
    with lab.idempotency.alone(request):
        if slow:
            known = lab.idempotency.recall(request)
            if known is not None:
                return _unpacked(known)
            answer = act()
            lab.idempotency.keep(request, _packed(answer))
            return answer
        try:
            with lab.core.together.scope(lambda ledger: lab.idempotency.claim(request, ledger)):
                try:
                    answer = act()
                except ServiceError as error:
                    if lab.core.together.ledger is None:
                        raise
                    answer = refusal(error)
                lab.idempotency.keep(request, _packed(answer))
                return answer
        except (KeyTaken, ServiceError):  # what is refused by now may have been done then
            known = lab.idempotency.recall(request)
            if known is None:
                raise
            return _unpacked(known)


def _packed(answer: Response) -> bytes:
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    parts = {"status": answer.status_code, "headers": headers, "body": b64encode(bytes(answer.body)).decode()}
    return json.dumps(parts).encode()


def _unpacked(kept: bytes) -> Response:
    parts = json.loads(kept)
    return Response(b64decode(parts["body"]), parts["status"], {**parts["headers"], _REPLAYED: "true"})

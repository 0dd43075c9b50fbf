"""What a node answers a request for a parameter group (J1939-21, 5.4.2)."""

from collections.abc import Mapping
from dataclasses import dataclass

from ecu_adapters.j1939.codec import ACKNOWLEDGEMENT, SINGLE, acknowledgement
from ecu_adapters.j1939.identifier import GLOBAL, is_pdu1
from ecu_adapters.j1939.requests import NEGATIVE
from ecu_adapters.j1939.session import Frame


@dataclass(frozen=True, slots=True)
class Reply:
    """A message that is to be sent."""

    pgn: int
    data: bytes
    destination: int


def requested_pgn(request: Frame) -> int | None:
    """What is asked for; None when the frame is too short to say."""
    return int.from_bytes(request.data[:3], "little") if len(request.data) >= 3 else None


def reply_to(request: Frame, answers: Mapping[int, bytes]) -> Reply | None:
    """None when nothing is to be said: only who was asked alone refuses."""
    pgn, to_all = requested_pgn(request), request.identifier.destination == GLOBAL
    if pgn is None:
        return None
    asker = request.identifier.source
    data = answers.get(pgn)
    if data is None:
        return None if to_all else Reply(ACKNOWLEDGEMENT, acknowledgement(NEGATIVE, pgn, asker), GLOBAL)
    directed = not to_all and (len(data) > SINGLE or is_pdu1(pgn))
    return Reply(pgn, data, asker if directed else GLOBAL)

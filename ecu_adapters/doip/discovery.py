"""Who is there: vehicle identification over UDP (ISO 13400-2, 7.4)."""

import asyncio
from dataclasses import dataclass

from doipclient import messages

from ecu_adapters.doip import frames
from ecu_adapters.doip.settings import PORT

BROADCAST = "255.255.255.255"
_IDENTIFICATION = 0x0004
_MOST = 256
"""Entities that are told of; more answers are left out."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A DoIP entity that has answered."""

    host: str
    logical_address: int
    vin: str
    """Empty where the entity has none."""
    eid: str
    gid: str
    """In hex."""


async def find(host: str = BROADCAST, port: int = PORT, *, wait_s: float = 2.0) -> list[Entity]:
    """Asks one host, or all of a network by its broadcast address, and listens for ``wait_s``.

    The entities in the order of their addresses, each once. Raises OSError when the request cannot be sent.
    """
    loop = asyncio.get_running_loop()
    any_address = "::" if ":" in host else "0.0.0.0"  # noqa: S104 - it only asks, and hears who answers
    transport, listener = await loop.create_datagram_endpoint(
        _Listener,
        local_addr=(any_address, 0),
        allow_broadcast=True,
    )
    try:
        transport.sendto(frames.encode(frames.ANY_VERSION, messages.VehicleIdentificationRequest()), (host, port))
        await asyncio.sleep(wait_s)
    finally:
        transport.close()
    if listener.error is not None and not listener.found:
        raise listener.error
    return sorted(listener.found, key=lambda entity: (entity.host, entity.logical_address))


class _Listener(asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.found: set[Entity] = set()
        self.error: OSError | None = None

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Called by the loop."""
        message = frames.decode_datagram(data, frames.UDP_TO_TESTER)
        if not isinstance(message, frames.Message) or message.payload_type != _IDENTIFICATION:
            return
        if len(self.found) < _MOST:
            payload = message.payload
            vin = payload[:17].decode("ascii", "replace").strip("\0\ufffd ")
            address = int.from_bytes(payload[17:19], "big")
            self.found.add(Entity(addr[0], address, vin, payload[19:25].hex(), payload[25:31].hex()))

    def error_received(self, exc: Exception) -> None:
        """Called by the loop."""
        if isinstance(exc, OSError):
            self.error = exc

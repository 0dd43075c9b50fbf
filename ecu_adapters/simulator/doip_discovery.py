"""How the simulated DoIP entity is found: vehicle identification, announcement, entity status and power mode (UDP)."""

import asyncio
from typing import TYPE_CHECKING, cast

from doipclient import messages

from ecu_adapters.doip import frames
from ecu_adapters.simulator.clock import Timer

if TYPE_CHECKING:
    from ecu_adapters.simulator.doip_entity import DoIpEntity

_ANNOUNCEMENTS = 3
_ANNOUNCE_INTERVAL_S = 0.5
_POWER_MODES = {"not_ready": 0x00, "ready": 0x01, "not_supported": 0x02}


class Discovery(asyncio.DatagramProtocol):
    """The UDP port of an entity."""

    def __init__(self, entity: "DoIpEntity") -> None:
        self._entity = entity
        self._transport: asyncio.DatagramTransport | None = None
        self._timer: Timer | None = None

    def announce(self, to: str) -> None:
        """Sends the vehicle announcement three times, half a second apart, to ``host:port``."""
        host, _, port = to.rpartition(":")
        self._announce((host.strip("[]"), int(port)), _ANNOUNCEMENTS)

    def close(self) -> None:
        """Closes the port."""
        if self._timer is not None:
            self._timer.cancel()
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Called by the loop. What another entity would send is left unanswered, else two of them would never end."""
        message = frames.decode_datagram(data, frames.UDP_TO_ENTITY)
        if isinstance(message, frames.Refused):
            payload_type = frames.HEADER.unpack(message.header)[2]
            if payload_type not in frames.UDP_TO_TESTER:
                self._entity.stats.header_nacks += 1
                self._send(messages.GenericDoIPNegativeAcknowledge(message.code), addr)
        elif message is not None:
            answer = self._answer(message)
            if answer is not None:
                self._send(answer, addr)

    def _answer(self, message: frames.Message) -> frames.Payload | None:
        entity, settings = self._entity, self._entity.settings
        kind, payload = message.payload_type, message.payload
        if kind == 0x0002:
            return self._identification() if payload == bytes.fromhex(settings.eid) else None
        if kind == 0x0003:
            return self._identification() if payload == entity.vin.encode() else None
        if kind == 0x4001:
            open_sockets = len(entity.routed)
            return messages.EntityStatusResponse(entity.node_type, settings.sockets, open_sockets, entity.longest)
        if kind == 0x4003:
            return messages.DiagnosticPowerModeResponse(_POWER_MODES[settings.power_mode])
        return self._identification()

    def _identification(self) -> frames.Payload:
        entity, settings = self._entity, self._entity.settings
        eid, gid = bytes.fromhex(settings.eid), bytes.fromhex(settings.gid)
        return messages.VehicleIdentificationResponse(entity.vin, entity.logical_address, eid, gid, 0x00, 0x00)

    def _announce(self, to: tuple[str, int], left: int) -> None:
        self._send(self._identification(), to)
        if left > 1:
            self._timer = self._entity.clock.call_later(_ANNOUNCE_INTERVAL_S, lambda: self._announce(to, left - 1))

    def _send(self, message: frames.Payload, to: tuple[str, int]) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(frames.encode(self._entity.version, message), to)

"""Periodic values in frames without ISO-TP, on an arbitration ID of their own (ISO 14229-1:2020, 11.5, type 2)."""

import asyncio

import can

from ecu_adapters.bus import BusPort
from ecu_adapters.description import EcuDescription
from ecu_adapters.inbox import Inbox
from ecu_adapters.uds.unsolicited import Unsolicited


class PeriodicFrames:
    """Hears them for a tester, from the description's ``periodic.response_id``; without one it hears nothing.

    The data of a frame is the periodic identifier, its value, perhaps fill bytes.
    """

    def __init__(self, port: BusPort, ecu: EcuDescription, unsolicited: Unsolicited) -> None:
        self._inbox: Inbox[bytes] = Inbox(asyncio.get_running_loop(), unsolicited.put_frame)
        unsolicited.periodic.lost_before = lambda: self._inbox.dropped
        identifier = ecu.periodic_can_id
        self._subscription = port.subscribe(self._hear, ids={identifier}) if identifier is not None else None

    def close(self) -> None:
        """Hears nothing more. Closing twice does nothing."""
        if self._subscription is not None:
            self._subscription.close()
        self._inbox.close()

    def _hear(self, message: can.Message) -> None:
        if message.is_rx and not message.is_remote_frame and message.data:
            self._inbox.put(bytes(message.data))

"""A simulated ECU's own way to the bus, which can be off, deaf, or lose single frames of its tester."""

import time
from collections.abc import Callable, Collection

import can

from ecu_adapters.bus_port import BusPort, Listener, Subscription, Taken
from ecu_adapters.can_config import CanConfig
from ecu_adapters.frame_records import Records


class LossyPort:
    """Another port's frames, as far as the ECU hears and speaks."""

    def __init__(self, port: BusPort, can_id: int) -> None:
        self.deaf = False
        """Nothing is heard: the ECU boots, or is off."""
        self.mute = False
        """Nothing is sent: the ECU is off."""
        self.hears: Callable[[bytes], bool] | None = None
        """Asked for each frame with the arbitration ID ``can_id``, on the bus' reader thread; None: all are heard."""
        self._port = port
        self._can_id = can_id

    @property
    def name(self) -> str:
        """The port's."""
        return self._port.name

    @property
    def config(self) -> CanConfig:
        """The port's."""
        return self._port.config

    def send(self, message: can.Message, timeout_s: float = 1.0) -> float:
        """As the port does, or not at all."""
        return time.time() if self.mute else self._port.send(message, timeout_s)

    def send_records(self, records: Records, timeout_s: float = 1.0) -> Taken:
        """As the port does, or not at all."""
        return Taken(records) if self.mute else self._port.send_records(records, timeout_s)

    def subscribe(self, listener: Listener, *, ids: Collection[int]) -> Subscription:
        """As the port does, frames that are not heard apart."""

        def hear(message: can.Message) -> None:
            if self.deaf:
                return
            judge = self.hears if message.arbitration_id == self._can_id and message.is_rx else None
            if judge is None or judge(bytes(message.data)):
                listener(message)

        return self._port.subscribe(hear, ids=ids)

    def note_late(self) -> None:
        """As `BusHub.note_late`."""
        self._port.note_late()

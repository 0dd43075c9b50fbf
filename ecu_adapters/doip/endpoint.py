"""The tester's end of DoIP for one ECU: the same interface as ISO-TP's."""

from collections.abc import Callable
from dataclasses import dataclass

from ecu_adapters.doip.errors import DoIpError
from ecu_adapters.doip.gateway import Gateways
from ecu_adapters.doip.settings import DoIp
from ecu_adapters.transport import Fault, PduListener, TransportError


@dataclass(slots=True)
class DoIpStats:
    """Counters of one ECU's messages."""

    sent: int = 0
    received: int = 0
    overflows: int = 0
    """PDUs that were longer than ``max_pdu``."""


class DoIpEndpoint:
    """A `Transport` to one ECU behind a DoIP entity. Made, used and closed on one asyncio loop."""

    def __init__(
        self,
        gateways: Gateways,
        settings: DoIp,
        on_pdu: PduListener,
        *,
        on_receive_error: Callable[[TransportError], None] | None = None,
    ) -> None:
        """Connects with the first message. Raises ValueError when the ECU has another endpoint in ``gateways``."""
        self.stats = DoIpStats()
        self._gateways = gateways
        self._settings = settings
        self._on_pdu = on_pdu
        self._on_receive_error = on_receive_error
        self._closed = False
        self.gateway = gateways.join(settings, self)

    @property
    def receiving(self) -> bool:
        """Never: messages come whole."""
        return False

    @property
    def last_frame(self) -> str:
        """Nothing: there are no frames."""
        return ""

    async def connect(self, *, timeout_s: float = 30.0) -> None:
        """Makes the TCP connection and activates routing, if that has not been done. Raises DoIpError."""
        self._check_open()
        await self.gateway.connect(timeout_s)

    async def send(self, pdu: bytes, *, timeout_s: float = 30.0) -> None:
        """Returns when the entity has acknowledged the PDU (0x8002). Raises DoIpError."""
        self._check_open()
        await self.gateway.send(self._settings.logical_address, pdu, timeout_s)
        self.stats.sent += 1

    def post(self, pdu: bytes) -> None:
        """Sends without waiting; a failure is counted and logged. PDUs keep their order."""
        if not self._closed:
            self.gateway.post(self._settings.logical_address, pdu)
            self.stats.sent += 1

    def send_functional(self, pdu: bytes) -> None:
        """Sends to the functional address; a refusal of the entity comes as a receive error.

        Raises DoIpError, also when there is no functional address, or no connection at this moment.
        """
        self._check_open()
        if self._settings.functional_address is None:
            raise DoIpError("the ECU's description names no doip.functional_address", Fault.INVALID_FRAME)
        self.gateway.put(self._settings.functional_address, pdu, self._functional_told)

    def poll(self) -> None:
        """Nothing is ever waiting elsewhere: the loop itself reads the socket."""

    def close(self) -> None:
        """Leaves the connection, which ends when no other ECU uses it."""
        if not self._closed:
            self._closed = True
            self._gateways.leave(self._settings, self)

    def on_pdu(self, pdu: bytes, frame: str) -> None:
        """Called by the gateway."""
        if len(pdu) > self._settings.max_pdu:
            self.stats.overflows += 1
            message = f"a PDU of {len(pdu)} bytes is more than doip.max_pdu = {self._settings.max_pdu}"
            self.on_lost(DoIpError(message, Fault.OVERFLOW, frame))
            return
        self.stats.received += 1
        self._on_pdu(pdu, False)

    def on_lost(self, error: DoIpError) -> None:
        """Called by the gateway."""
        if self._on_receive_error is not None:
            self._on_receive_error(error)

    def _functional_told(self, error: DoIpError | None) -> None:
        if error is not None and error.kind is Fault.REFUSED:
            self.on_lost(error)

    def _check_open(self) -> None:
        if self._closed:
            raise DoIpError("the endpoint is closed", Fault.CLOSED)

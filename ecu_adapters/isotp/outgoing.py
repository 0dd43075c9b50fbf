"""PDUs on their way out: one in work, the others waiting in their order."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from ecu_adapters.isotp.errors import IsoTpError, closed
from ecu_adapters.isotp.frame_output import FrameOutput
from ecu_adapters.isotp.sender import Sender
from ecu_adapters.transport import Fault

_BURST, _LONG_BURST = 16, 64
"""Consecutive frames that are sent in one go before the loop's other work gets its turn; more where the bus is fast."""
_FAST_S = 0.003
"""A burst that took longer met a full transmit queue, as on a real bus."""
_QUEUE = 64
"""PDUs that may wait for the one in work."""


class Outgoing:
    """Sends PDUs one after the other, each as the peer's flow control lets it. Lives on one asyncio loop."""

    def __init__(
        self,
        sender: Sender,
        output: FrameOutput,
        single: Callable[[bytes], bytes | None],
        *,
        on_lost: Callable[[IsoTpError], None],
        on_change: Callable[[], None],
    ) -> None:
        """``single`` gives the one frame that carries a PDU, if one does, and raises IsoTpError.

        ``on_lost`` is told of a PDU that was lost and that nobody waits for; ``on_change``, that the sender may have
        something else due.
        """
        self.sent = 0
        """PDUs whose last frame the driver has taken."""
        self.failed = 0
        self._sender = sender
        self._output = output
        self._single = single
        self._on_lost = on_lost
        self._on_change = on_change
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Sending] = deque()
        self._current: _Sending | None = None
        self._burst = _BURST

    @property
    def busy(self) -> bool:
        """Whether a PDU of several frames is in work."""
        return self._current is not None

    async def send(self, pdu: bytes, timeout_s: float) -> None:
        """Returns when the driver has taken the last frame. Raises IsoTpError."""
        if self._current is None:
            frame = self._single(pdu)
            if frame is not None:
                try:
                    self._output.send(frame)
                except IsoTpError:
                    self.failed += 1
                    raise
                self.sent += 1
                return
        done: asyncio.Future[None] = self._loop.create_future()
        sending = _Sending(pdu, done)
        self._start(sending)
        handle = self._loop.call_later(timeout_s, self._give_up, sending, timeout_s)
        try:
            await done
        except asyncio.CancelledError:
            # Whoever sends next must not find half a PDU in the way.
            self._withdraw(sending)
            raise
        finally:
            handle.cancel()

    def post(self, pdu: bytes) -> None:
        """Sends without waiting; ``on_lost`` is told of a failure. Raises IsoTpError."""
        frame = self._single(pdu) if self._current is None else None
        if frame is None:
            self._start(_Sending(pdu, None))
            return
        try:
            self._output.send(frame)
        except IsoTpError as error:
            self.fail(None, error)
        else:
            self.sent += 1

    def proceed(self, now: float) -> None:
        """Sends what may be sent now."""
        frames = self._sender.frames(now, self._burst)
        if not frames:
            return
        try:
            self._output.send_all(frames)
        except IsoTpError as error:
            self._sender.stop()
            self.finish(error)
            return
        done = time.monotonic()
        self._burst = _LONG_BURST if done - now < _FAST_S else _BURST
        self._sender.sent(done)
        if not self._sender.busy:
            self.finish(None)

    def finish(self, error: IsoTpError | None) -> None:
        """The PDU in work is done with."""
        sending, self._current = self._current, None
        if sending is not None:
            if error is None:
                self._succeed(sending)
            else:
                self.fail(sending.done, error)
        self._next()

    def fail(self, done: "asyncio.Future[None] | None", error: IsoTpError) -> None:
        """A PDU is lost; whoever waits for ``done`` gets the error."""
        self.failed += 1
        if done is None:
            self._on_lost(error)
        elif not done.done():
            done.set_exception(error)

    def close(self) -> None:
        """Forgets what is in work and what waits."""
        self._output.close()
        self._sender.stop()
        left = [sending for sending in (self._current, *self._queue) if sending is not None]
        self._current = None
        self._queue.clear()
        for sending in left:
            self.fail(sending.done, closed())

    def _start(self, sending: "_Sending") -> None:
        if len(self._queue) >= _QUEUE:
            raise IsoTpError(f"{_QUEUE} PDUs wait to be sent already", Fault.SEND_TIMEOUT)
        self._queue.append(sending)
        if self._current is None:
            self._next()

    def _next(self) -> None:
        """Begins with the next PDU that waits. Those of one frame are done at once."""
        while self._queue and self._current is None:
            sending = self._queue.popleft()
            try:
                frame = self._single(sending.pdu)
                if frame is not None:
                    self._output.send(frame)
                    self._succeed(sending)
                    continue
                self._current = sending
                self._output.send(self._sender.start(sending.pdu, time.monotonic()))
            except IsoTpError as error:
                self._sender.stop()
                self._current = None
                self.fail(sending.done, error)
        self._on_change()

    def _succeed(self, sending: "_Sending") -> None:
        self.sent += 1
        if sending.done is not None and not sending.done.done():
            sending.done.set_result(None)

    def _give_up(self, sending: "_Sending", timeout_s: float) -> None:
        if sending.done is not None and not sending.done.done():
            self._withdraw(sending)
            message = f"the PDU was not sent within {timeout_s:g} s"
            self.fail(sending.done, IsoTpError(message, Fault.SEND_TIMEOUT))

    def _withdraw(self, sending: "_Sending") -> None:
        if sending is self._current:
            self._sender.stop()
            self._current = None
            self._next()
        elif sending in self._queue:
            self._queue.remove(sending)


@dataclass(eq=False, slots=True)
class _Sending:
    """A PDU on its way, and who waits for it."""

    pdu: bytes
    done: "asyncio.Future[None] | None"

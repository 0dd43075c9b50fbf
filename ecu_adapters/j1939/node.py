"""A J1939 node on a bus and an asyncio loop, without a thread.

A hub's reader hands frames to the loop, where they are fed to the state machines; the loop's timers wake those up.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import can
import structlog

from ecu_adapters.burst import Burst
from ecu_adapters.bus import EXTENDED_FLAG, BusError
from ecu_adapters.frame_records import ERROR, ID_MASK, REMOTE
from ecu_adapters.inbox import Inbox
from ecu_adapters.j1939.address import CONTEST_S, AddressClaim
from ecu_adapters.j1939.codec import ACKNOWLEDGEMENT, ADDRESS_CLAIMED, CONNECTION, DATA, REQUEST, SINGLE, request
from ecu_adapters.j1939.errors import Failure, Fault, J1939Error
from ecu_adapters.j1939.identifier import GLOBAL, Identifier, IdentifierError, check_address, check_pgn, is_pdu1
from ecu_adapters.j1939.message import Message, check_message
from ecu_adapters.j1939.name import Name
from ecu_adapters.j1939.port import NodeStats, Port
from ecu_adapters.j1939.replies import reply_to, requested_pgn
from ecu_adapters.j1939.requests import Requests
from ecu_adapters.j1939.session import Frame
from ecu_adapters.j1939.settings import Settings
from ecu_adapters.j1939.transport import Event, Lost, Received, Sent, TransportProtocol
from ecu_adapters.transport import ABSENCE_S

PRIORITY = 6
"""Of messages that do not say otherwise."""
_SEND_S = 0.5
"""How long the driver may take for a frame."""

_log = structlog.get_logger()


class J1939Node:
    """One address on a bus. Made, used and closed on one asyncio loop.

    ``on_message`` is called for every message to this node or to all; ``on_lost`` when one that had begun to come is
    lost. Frames of CAN FD (J1939-22) are not heard.
    """

    def __init__(
        self,
        port: Port,
        address: int,
        settings: Settings | None = None,
        *,
        name: Name | None = None,
        on_message: Callable[[Message], None] = lambda _message: None,
        on_lost: Callable[[Lost], None] = lambda _lost: None,
    ) -> None:
        """With a ``name``, the address is to be claimed before it is used (`claim`). Raises IdentifierError."""
        check_address(address)
        self.address = address
        self.answers: dict[int, bytes] = {}
        """What requests for a parameter group are answered with; others get a negative acknowledgement, as far as they
        are meant for this node alone."""
        self._stats = NodeStats()
        self._port = port
        self._on_message = on_message
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport = TransportProtocol(address, settings or Settings())
        self._claim = AddressClaim(address, name) if name is not None else None
        self._claimed = name is None
        self._lost = asyncio.Event()
        self._sending: dict[int, asyncio.Future[float]] = {}
        self._stamps: dict[int, float] = {}
        self._requests = Requests()
        self._timer: asyncio.TimerHandle | None = None
        self._due: float | None = None
        self._closed = False
        self._inbox: Inbox[can.Message] = Inbox(self._loop, self._take, on_drop=port.note_late)
        self._subscription = port.tap(self._hear)

    @property
    def stats(self) -> NodeStats:
        """Counters, as they are now."""
        self._stats.ignored, self._stats.dropped = self._transport.ignored, self._inbox.dropped
        return self._stats

    @property
    def fault(self) -> str:
        """Why it cannot send; empty when it can."""
        try:
            self._check_usable()
        except J1939Error as error:
            return str(error)
        return ""

    async def claim(self) -> None:
        """Claims the address and waits 250 ms whether anybody contests it. Raises J1939Error when another has it."""
        if self._claim is None:
            raise IdentifierError("the node has no NAME; an address is claimed with one")
        self._claim.made = True
        self._put(self._claim.frame())
        contested = asyncio.ensure_future(self._lost.wait())
        try:
            await self._await(contested, CONTEST_S)
        finally:
            contested.cancel()
        self._claimed = self._claim.failure is None
        self._check_usable()

    async def send(
        self, pgn: int, data: bytes, destination: int = GLOBAL, *, priority: int = PRIORITY, timeout_s: float = 30.0
    ) -> float:
        """Sends up to 8 bytes in a frame, up to 1785 by the transport protocol (to all by BAM, to a node by RTS/CTS).

        Returns the moment before the driver was given the last frame (s since the Unix epoch): what answers it is
        newer. A message for one node has arrived there. Raises J1939Error, and IdentifierError or ValueError for what
        cannot be sent.
        """
        self._check_usable()
        check_message(pgn, data, self.address, destination, priority)
        if len(data) <= SINGLE:
            return self._single(Frame(Identifier(pgn, self.address, destination, priority), data))
        now = time.monotonic()
        try:
            number = self._transport.send(pgn, data, destination, now)
        except OverflowError as error:
            raise J1939Error(Failure(Fault.NO_ROOM, str(error))) from error
        done: asyncio.Future[float] = self._loop.create_future()
        self._sending[number] = done
        self._advance()
        try:
            await asyncio.wait([done], timeout=timeout_s)
            if not done.done():
                raise J1939Error(Failure(Fault.SEND_TIMEOUT, f"the message was not sent within {timeout_s:g} s"))
        finally:
            if self._sending.pop(number, None) is not None and not done.done():
                self._stats.send_errors += 1
                self._carry_out(self._transport.withdraw(number, time.monotonic()))
        return done.result()

    async def request(
        self,
        pgn: int,
        destination: int = GLOBAL,
        *,
        timeout_s: float = 1.25,
        on_sent: Callable[[float], None] = lambda _stamp: None,
    ) -> Message:
        """Asks for a parameter group, and returns the first answer: the message, or a positive acknowledgement (PGN
        0xE800).

        ``on_sent`` is told the moment before the driver was given the request (s since the Unix epoch).

        Raises J1939Error: NO_ANSWER, REFUSED with the control byte, or what became of the answer's transfer.
        """
        self._check_usable()
        check_pgn(pgn)
        check_message(REQUEST, request(pgn), self.address, destination, PRIORITY)
        asked = self._requests.add(pgn, destination)
        frame = Frame(Identifier(REQUEST, self.address, destination, PRIORITY), request(pgn))
        try:
            on_sent(self._single(frame))
            await self._await(asked.answer, timeout_s)
            if asked.answer.done():
                return asked.answer.result()
            begun = self._transport.is_receiving(pgn, None if destination == GLOBAL else destination)
            who = "anybody" if destination == GLOBAL else f"0x{destination:02X}"
            reason = (
                f"the answer of {who} to the request for PGN 0x{pgn:04X} was not complete within {timeout_s:g} s"
                if begun
                else f"no answer of {who} to the request for PGN 0x{pgn:04X} within {timeout_s:g} s"
            )
            raise J1939Error(Failure(Fault.NO_ANSWER, reason, str(frame)))
        finally:
            self._requests.remove(asked)

    def close(self) -> None:
        """Forgets what was in work; connections are left to the peers' time-outs. Closing twice does nothing."""
        self._closed = True
        self._subscription.close()
        self._inbox.close()
        if self._timer is not None:
            self._timer.cancel()
        self._requests.close()
        for done in self._sending.values():
            if not done.done():
                done.set_exception(_closed())

    async def _await(self, answer: "asyncio.Future[Any]", timeout_s: float) -> None:
        """Waits so long for other nodes, and once more for as long as this process, or its machine, stood still."""
        until = time.monotonic() + timeout_s
        await asyncio.wait([answer], timeout=timeout_s)
        # A reader thread may have brought what is waited for, and this loop was late.
        self._inbox.drain()
        late_s = time.monotonic() - until
        if not answer.done() and late_s > ABSENCE_S:
            await asyncio.wait([answer], timeout=late_s)
            self._inbox.drain()

    # Sending

    def _check_usable(self) -> None:
        if self._closed:
            raise _closed()
        if self._claim is not None and self._claim.failure is not None:
            raise J1939Error(self._claim.failure)
        if not self._claimed:
            raise J1939Error(Failure(Fault.ADDRESS, f"address 0x{self.address:02X} is not claimed yet"))

    def _single(self, frame: Frame) -> float:
        try:
            stamp = self._put(frame)
        except J1939Error:
            self._stats.send_errors += 1
            raise
        self._stats.sent += 1
        return stamp

    def _put(self, frame: Frame) -> float:
        message = can.Message(arbitration_id=frame.identifier.can_id, is_extended_id=True, data=frame.data)
        try:
            return self._port.send(message, _SEND_S)
        except BusError as error:
            raise J1939Error(Failure(Fault.BUS, str(error), str(frame))) from error

    # Receiving

    def _hear(self, burst: Burst) -> None:
        if burst.own:
            return
        for position, can_id in enumerate(burst.ids()):
            if can_id & (EXTENDED_FLAG | REMOTE | ERROR) == EXTENDED_FLAG and self._is_mine(can_id & ID_MASK):
                message = burst[position]
                if not message.is_fd:
                    self._inbox.put(message)

    def _is_mine(self, can_id: int) -> bool:
        """Whether the message is for this node or for all."""
        return not is_pdu1(can_id >> 8) or can_id >> 8 & 0xFF in (self.address, GLOBAL)

    def _take(self, message: can.Message) -> None:
        identifier = Identifier.of(message.arbitration_id)
        if self._closed or identifier is None:
            return
        frame = Frame(identifier, bytes(message.data))
        if identifier.pgn == ADDRESS_CLAIMED:
            self._contest(frame)
        elif identifier.source == self.address:
            self._stats.conflicts += 1
            return
        if identifier.pgn in (CONNECTION, DATA):
            self._carry_out(self._transport.take(frame, time.monotonic()), message.timestamp, identifier.priority)
            self._advance()
            return
        if identifier.pgn == REQUEST:
            self._answer(frame)
        elif identifier.pgn == ACKNOWLEDGEMENT:
            self._requests.acknowledged(frame, message.timestamp, self.address)
        self._deliver(Message.of(frame, message.timestamp))

    def _deliver(self, message: Message) -> None:
        self._stats.received += 1
        self._requests.take(message)
        self._on_message(message)

    def _contest(self, frame: Frame) -> None:
        if self._claim is None:
            self._stats.conflicts += frame.identifier.source == self.address
            return
        reply = self._claim.take(frame)
        if reply is None:
            return
        self._stats.conflicts += 1
        self._put_quietly(reply)
        if self._claim.failure is not None:
            self._claimed = False
            self._lost.set()
            _log.warning("J1939 address lost", bus=self._port.name, reason=self._claim.failure.reason)

    def _answer(self, request: Frame) -> None:
        """Somebody asks for a parameter group."""
        if requested_pgn(request) == ADDRESS_CLAIMED:
            if self._claim is not None and self._claim.made:
                self._put_quietly(self._claim.frame())
            return
        reply = reply_to(request, self.answers) if self._claimed else None
        if reply is None:
            return
        if len(reply.data) <= SINGLE:
            identifier = Identifier(reply.pgn, self.address, reply.destination, PRIORITY)
            self._put_quietly(Frame(identifier, reply.data))
            return
        try:
            self._transport.send(reply.pgn, reply.data, reply.destination, time.monotonic())
        except (OverflowError, ValueError) as error:
            _log.warning("J1939 request not answered", bus=self._port.name, reason=str(error))
        self._advance()

    def _put_quietly(self, frame: Frame) -> None:
        """Sends what nobody here waits for; a failure is counted and logged."""
        try:
            self._single(frame)
        except J1939Error as error:
            _log.warning("J1939 frame not sent", bus=self._port.name, frame=str(frame), reason=str(error))

    # Time

    def _carry_out(self, events: Iterable[Event], timestamp: float = 0.0, priority: int = 7) -> None:
        """Does what the transport protocol says, in order."""
        waiting = deque(events)
        while waiting:
            event = waiting.popleft()
            match event:
                case Frame():
                    try:
                        stamp = self._put(event)
                    except J1939Error as error:
                        failure = Failure(Fault.BUS, str(error), error.frame)
                        waiting = deque(e for e in waiting if not _goes_to(e, event.identifier.destination))
                        waiting.extend(
                            self._transport.break_off(event.identifier.destination, failure, time.monotonic())
                        )
                    else:
                        if event.identifier.pgn == DATA:
                            self._stamps[event.identifier.destination] = stamp
                case Received():
                    self._deliver(Message(event.pgn, event.source, event.destination, priority, event.data, timestamp))
                case Sent():
                    self._ended(event)
                case Lost():
                    self._failed(event)

    def _ended(self, sent: Sent) -> None:
        done = self._sending.pop(sent.number, None)
        if sent.failure is None:
            self._stats.sent += 1
        else:
            self._stats.send_errors += 1
        if done is None:
            if sent.failure is not None:
                _log.warning("J1939 message not sent", bus=self._port.name, reason=sent.failure.reason)
        elif not done.done():
            if sent.failure is not None:
                done.set_exception(J1939Error(sent.failure))
            else:
                done.set_result(self._stamps.get(sent.destination, time.time()))

    def _failed(self, lost: Lost) -> None:
        self._stats.receive_errors += 1
        self._requests.lost(lost)
        self._on_lost(lost)

    def _advance(self) -> None:
        """Does what is due now, and sets the timer for what is due next."""
        if self._closed:
            return
        now = time.monotonic()
        if self._due is not None and now - self._due > ABSENCE_S:
            self._transport.excuse(2 * now - self._due)
        self._carry_out(self._transport.advance(now))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._due = due = self._transport.due
        if due is not None:
            self._timer = self._loop.call_later(max(due - time.monotonic(), 0.0), self._wake)

    def _wake(self) -> None:
        # A reader thread may have brought what is waited for, and this loop was late.
        self._inbox.drain()
        self._advance()


def _goes_to(event: Event, destination: int) -> bool:
    return isinstance(event, Frame) and event.identifier.destination == destination


def _closed() -> J1939Error:
    return J1939Error(Failure(Fault.CLOSED, "the J1939 node is closed"))

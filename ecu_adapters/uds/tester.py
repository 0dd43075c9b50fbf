"""The tester's side of UDS: whole PDUs out and in, with the timing of ISO 14229-2.

P2 starts when the request has been sent in full, not when it was queued; each 0x78 starts a P2* of its own, and how
many of them there may be is bounded by the caller's limit alone. While a diagnostic session is open, TesterPresent
keeps it so. Times are taken from the monotonic clock: a loop's own (uvloop's above all) is too coarse.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog

from ecu_adapters.description import DEFAULT_SESSION, EcuDescription
from ecu_adapters.doip import Gateways
from ecu_adapters.transport import ABSENCE_S, Fault, TransportError
from ecu_adapters.uds.link import Link, tester_endpoint
from ecu_adapters.uds.matching import answers
from ecu_adapters.uds.names import NEGATIVE, PENDING, SUPPRESS_POSITIVE, WITH_SUBFUNCTION, service_name
from ecu_adapters.uds.pending import Pending
from ecu_adapters.uds.periodic_frames import PeriodicFrames
from ecu_adapters.uds.secret import shown
from ecu_adapters.uds.unsolicited import Unsolicited

_CLOSE_TIMEOUT_S = 1.0
"""How long `UdsTester.close` may take to bring the ECU back to its default session."""
_KEEP_ALIVE = bytes((0x3E, SUPPRESS_POSITIVE))
_KEEP_ALIVE_ANSWERS = (b"\x7e\x00", b"\x7f\x3e\x12", b"\x7f\x3e\x78")
_SESSION_CONTROL = 0x10
_RESET = 0x11
UNKNOWN_SESSION = 0
"""No session of ISO 14229-1: what an ECU is in that somebody else may have left anywhere."""
_REPLIES = 64
"""Responses kept while none is awaited."""

_log = structlog.get_logger()


class UdsError(Exception):
    """A diagnostic exchange failed. ``exchange`` is how far it came, if it began."""

    def __init__(self, message: str, exchange: "Exchange | None" = None) -> None:
        super().__init__(message)
        self.exchange = exchange


class UdsTimeout(UdsError):
    """No final response came in time. ``frame`` is the last one sent before the silence, as candump writes it."""

    def __init__(self, message: str, exchange: "Exchange | None" = None, frame: str = "") -> None:
        super().__init__(message, exchange)
        self.frame = frame


class UdsTransportError(UdsError):
    """The bus, ISO-TP or DoIP failed on the way there or back. ``cause`` says how, and which frame it was."""

    def __init__(self, message: str, exchange: "Exchange | None" = None, cause: TransportError | None = None) -> None:
        super().__init__(message, exchange)
        self.cause = cause


class UdsUnexpected(UdsError):
    """The response is malformed."""


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request and what came of it. Times in seconds after the request was sent in full."""

    request: bytes
    response: bytes | None
    """The final response; None when none came, or a suppressed one was due."""
    pending: Pending
    """The 0x78 on the way."""
    elapsed_s: float

    @property
    def nrc(self) -> int | None:
        """The negative response code, if the response is negative."""
        return self.response[2] if self.response and self.response[0] == NEGATIVE else None


@dataclass(slots=True)
class TesterStats:
    """Counters since the tester was opened."""

    requests: int = 0
    negative: int = 0
    timeouts: int = 0
    skipped: int = 0
    """Responses to other requests: late ones, and those to TesterPresent in the background."""
    keep_alives: int = 0
    keep_alive_errors: int = 0


class UdsTester:
    """A tester for one ECU. Made and used on one asyncio loop; concurrent requests are served in order."""

    def __init__(self, link: Link, ecu: EcuDescription) -> None:
        """Raises ValueError when the description does not suit the link (CAN FD on a classic bus)."""
        self.ecu = ecu
        self.stats = TesterStats()
        self.unsolicited = Unsolicited()
        """What the ECU sent that answers no request."""
        self.on_exchange: Callable[[UdsTester, Exchange | None, UdsError | None], None] | None = None
        """Called when an exchange is over, with how far it came, and what went wrong."""
        self.session = DEFAULT_SESSION
        """The session that the ECU is in, as far as its answers tell; without an answer, the one asked for."""
        self._loop = asyncio.get_running_loop()
        self._endpoint = tester_endpoint(link, ecu, self._on_pdu, self._on_receive_error)
        self._periodic = None if isinstance(link, Gateways) else PeriodicFrames(link, ecu, self.unsolicited)
        self._busy = asyncio.Lock()
        self._replies: list[tuple[float, bytes | TransportError]] = []
        self._waiter: asyncio.Future[None] | None = None
        self._awaiting = False
        self._keep_alive: asyncio.TimerHandle | None = None
        self._last_sent = time.monotonic()
        self._excused = (0.0, 0.0)
        """The last end of a wait that this process was late for, and until when the ECU is heard all the same."""
        self._closed = False
        self._p2_s = self._p2_star_s = 0.0
        self._default_timing()

    async def request(self, pdu: bytes, *, timeout_s: float) -> Exchange:
        """Sends ``pdu`` and returns its final response, positive or negative, or None where none is due.

        ``timeout_s`` bounds the whole exchange, the turn among other requests and all 0x78 included. Raises UdsTimeout,
        UdsTransportError, and UdsUnexpected for a malformed response.
        """
        if not pdu:
            raise UdsUnexpected("a request has at least one byte, the service identifier")
        deadline = time.monotonic() + timeout_s
        await self.take_turn(timeout_s)
        try:
            return await self._exchange(bytes(pdu), timeout_s, deadline)
        finally:
            self.end_turn()

    @property
    def limits_s(self) -> tuple[float, float]:
        """P2 and P2* in force, transit included (s)."""
        return self._p2_s, self._p2_star_s

    async def take_turn(self, timeout_s: float) -> None:
        """Waits until no request is in work; what the ECU says from now on may be an answer. `end_turn` must follow.

        Raises UdsTimeout when others take too long.
        """
        try:
            if self._busy.locked():
                async with asyncio.timeout(timeout_s):
                    await self._busy.acquire()
            else:
                await self._busy.acquire()
        except TimeoutError:
            self.stats.timeouts += 1
            raise UdsTimeout(f"{self.ecu.name} was busy with other requests for {timeout_s:g} s") from None
        if self._closed:
            self._busy.release()
            raise UdsTransportError(f"the tester of {self.ecu.name} is closed")
        self.stats.requests += 1
        self._awaiting = True

    def end_turn(self) -> None:
        """The request is over."""
        self._awaiting = False
        for _, reply in self._replies:
            self._skip(reply)
        self._replies.clear()
        self._busy.release()

    async def send_functional(self, pdu: bytes, *, timeout_s: float) -> None:
        """Sends to all ECUs, connecting first where that is needed. Raises UdsTransportError."""
        try:
            await self._endpoint.connect(timeout_s=timeout_s)
            self._endpoint.send_functional(pdu)
        except TransportError as error:
            message = f"{service_name(pdu[0])} was not sent to the functional address: {error}"
            raise UdsTransportError(message, Exchange(pdu, None, Pending(), 0.0), error) from error

    async def close(self) -> None:
        """Brings the ECU back to its default session if it is in another, and lets go of the bus. Never raises.

        A request in work is waited for; all of it takes about one second at most.
        """
        if self._closed:
            return
        self._stop_keep_alive()
        if self.session != DEFAULT_SESSION:
            try:
                await self.request(bytes((_SESSION_CONTROL, DEFAULT_SESSION)), timeout_s=_CLOSE_TIMEOUT_S)
            except UdsError as error:
                _log.warning("ECU may still be in a diagnostic session", ecu=self.ecu.name, reason=str(error))
        self._closed = True
        self._stop_keep_alive()
        self._endpoint.close()
        if self._periodic is not None:
            self._periodic.close()
        self._on_receive_error(TransportError("the tester was closed", Fault.CLOSED))

    async def _exchange(self, pdu: bytes, timeout_s: float, deadline: float) -> Exchange:
        try:
            await self._endpoint.send(pdu, timeout_s=max(deadline - time.monotonic(), 0.0))
        except TransportError as error:
            message = f"{self._what(pdu)} was not sent: {error}"
            failed = UdsTransportError(message, Exchange(pdu, None, Pending(), 0.0), error)
            self._over(failed.exchange, failed)
            raise failed from error
        return await self.final_response(pdu, time.monotonic(), deadline, timeout_s)

    async def final_response(
        self, pdu: bytes, sent: float, deadline: float, timeout_s: float, *, functional: bool = False
    ) -> Exchange:
        """The rest of an exchange, once ``pdu`` has been sent at ``sent``; times on the monotonic clock.

        To a functional request, silence is an answer too: the exchange has no response. Raises as `request`.
        """
        try:
            exchange = await self._final_response(pdu, sent, deadline, timeout_s, functional=functional)
        except UdsError as error:
            self._over(error.exchange, error)
            raise
        self._over(exchange)
        return exchange

    def _over(self, exchange: Exchange | None, error: UdsError | None = None) -> None:
        if self.on_exchange is not None:
            self.on_exchange(self, exchange, error)

    async def _final_response(
        self, pdu: bytes, sent: float, deadline: float, timeout_s: float, *, functional: bool
    ) -> Exchange:
        self._last_sent = sent
        suppressed = pdu[0] in WITH_SUBFUNCTION and len(pdu) > 1 and bool(pdu[1] & SUPPRESS_POSITIVE)
        pending = Pending()
        window = sent + self._p2_s
        before = self.session
        if pdu[0] == _SESSION_CONTROL and len(pdu) > 1 and pdu[1] & ~SUPPRESS_POSITIVE != DEFAULT_SESSION:
            # Should the answer be lost, or nobody wait for it any more: the ECU may be there, and `close` must know.
            self.session = pdu[1] & ~SUPPRESS_POSITIVE
        while True:
            reply = await self._next_reply(min(window, deadline), deadline)
            now = time.monotonic()
            if reply is None:
                pending.end_gap(now - sent)
                exchange = Exchange(pdu, None, pending, now - sent)
                if suppressed and not pending.count and window <= deadline:
                    self._follow_session(pdu)
                    return exchange
                in_reception = self._endpoint.receiving
                if functional and not pending.count and not in_reception:
                    return exchange
                self.stats.timeouts += 1
                message = self._timeout_text(pdu, pending, timeout_s, deadline < window or in_reception)
                raise UdsTimeout(message, exchange, self._endpoint.last_frame)
            arrived, response = reply
            if isinstance(response, TransportError):
                exchange = Exchange(pdu, None, pending, arrived - sent)
                message = f"the response to {self._what(pdu)} was lost: {response}"
                raise UdsTransportError(message, exchange, response)
            if not answers(pdu, response):
                self._skip(response)
                continue
            # A tiny negative time would mean that the answer overtook the driver's report of the last frame sent.
            elapsed = max(arrived - sent, 0.0)
            if response[0] == NEGATIVE:
                if len(response) != 3:
                    exchange = Exchange(pdu, response, pending, elapsed)
                    raise UdsUnexpected(f"negative response to {self._what(pdu)} is {response.hex()}", exchange)
                if response[2] == PENDING:
                    pending.add(elapsed)
                    window = arrived + self._p2_star_s
                    continue
                self.stats.negative += 1
                self.session = before
            else:
                self._follow_session(pdu, response)
            pending.end_gap(elapsed)
            return Exchange(pdu, response, pending, elapsed)

    async def _next_reply(self, until: float, deadline: float) -> tuple[float, bytes | TransportError] | None:
        """The next one that begins by ``until``. P2 and P2* end with its first frame (ISO 14229-2)."""
        await self._wait(until)
        if not self._replies and self._endpoint.receiving:
            await self._wait(deadline)
        return self._replies.pop(0) if self._replies else None

    async def _wait(self, until: float) -> None:
        await self._wait_once(until)
        now = time.monotonic()
        if not self._replies and now - until > ABSENCE_S:
            # The process stood still, and could not hear the ECU: that is not the ECU's silence.
            if self._excused[0] != until:
                self._excused = until, 2 * now - until
            await self._wait_once(self._excused[1])

    async def _wait_once(self, until: float) -> None:
        if self._replies:
            return
        self._waiter = self._loop.create_future()
        handle = self._loop.call_later(max(until - time.monotonic(), 0.0), _wake, self._waiter)
        try:
            await self._waiter
        finally:
            handle.cancel()
            self._waiter = None
        if not self._replies:
            # The reader thread may have the answer already, and this loop was late.
            self._endpoint.poll()

    def _on_pdu(self, pdu: bytes, _functional: bool) -> None:
        self._on_reply(pdu)

    def _on_receive_error(self, error: TransportError) -> None:
        self._on_reply(error)

    def _on_reply(self, reply: bytes | TransportError) -> None:
        if not self._awaiting or len(self._replies) >= _REPLIES:
            self._skip(reply)
            return
        self._replies.append((time.monotonic(), reply))
        if self._waiter is not None:
            _wake(self._waiter)

    def _skip(self, reply: bytes | TransportError) -> None:
        """Puts aside what answers no request."""
        self.stats.skipped += 1
        if isinstance(reply, bytes) and reply and reply not in _KEEP_ALIVE_ANSWERS:
            self.unsolicited.put(reply)

    def _follow_session(self, request: bytes, response: bytes | None = None) -> None:
        """Keeps track of the session that an accepted request leads to, and of the timing that the ECU announces."""
        if request[0] == _RESET:
            self._enter(DEFAULT_SESSION)
            self._default_timing()
        elif request[0] == _SESSION_CONTROL and len(request) > 1:
            if response is not None and len(response) >= 6:
                transit = self.ecu.timing.transit_ms / 1000
                self._p2_s = int.from_bytes(response[2:4], "big") / 1000 + transit
                self._p2_star_s = int.from_bytes(response[4:6], "big") / 100 + transit
            self._enter(request[1] & ~SUPPRESS_POSITIVE)

    def _enter(self, session: int) -> None:
        self.session = session
        self._stop_keep_alive()
        if session != DEFAULT_SESSION and not self._closed:
            self._arm_keep_alive(time.monotonic())

    def _arm_keep_alive(self, since: float) -> None:
        due = since + self.ecu.timing.s3_client_ms / 1000
        self._keep_alive = self._loop.call_later(max(due - time.monotonic(), 0.0), self._keep_session)

    def _keep_session(self) -> None:
        """Sends TesterPresent, unless a request within the period did the same for the session."""
        now = time.monotonic()
        period = self.ecu.timing.s3_client_ms / 1000
        in_work = self._busy.locked()
        if not in_work and now - self._last_sent < period - 0.001:
            self._arm_keep_alive(self._last_sent)
            return
        try:
            # To the functional address while a request is in work: a physical one could cut into its transmission.
            if not in_work:
                self._endpoint.post(_KEEP_ALIVE)
                self.stats.keep_alives += 1
            elif self.ecu.functional_address is not None:
                self._endpoint.send_functional(_KEEP_ALIVE)
                self.stats.keep_alives += 1
        except TransportError as error:
            self.stats.keep_alive_errors += 1
            if self.stats.keep_alive_errors == 1:
                _log.warning("TesterPresent was not sent", ecu=self.ecu.name, reason=str(error))
        self._last_sent = now
        self._arm_keep_alive(now)

    def _stop_keep_alive(self) -> None:
        if self._keep_alive is not None:
            self._keep_alive.cancel()
            self._keep_alive = None

    def _default_timing(self) -> None:
        timing = self.ecu.timing
        self._p2_s = (timing.p2_ms + timing.transit_ms) / 1000
        self._p2_star_s = (timing.p2_star_ms + timing.transit_ms) / 1000

    def _what(self, pdu: bytes) -> str:
        return f"{service_name(pdu[0])} ({shown(pdu)}) to {self.ecu.name}"

    def _timeout_text(self, pdu: bytes, pending: Pending, timeout_s: float, out_of_time: bool) -> str:
        if pending.count:
            times = f"{pending.count} x 0x78 (response pending)"
            limit = f"{timeout_s:g} s" if out_of_time else f"P2* of {self._p2_star_s * 1000:g} ms"
            return f"{self._what(pdu)}: {times}, then no final response within {limit}"
        limit = f"{timeout_s:g} s" if out_of_time else f"P2 of {self._p2_s * 1000:g} ms"
        return f"{self._what(pdu)}: no response within {limit}"


def _wake(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_result(None)

"""The UDS server of a simulated ECU: a request PDU in, response PDUs out, at the times that ISO 14229-2 allows.

It knows neither bus nor asyncio: PDUs come by `UdsServer.receive`, go by a function, and time comes from a clock.
"""

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from ecu_adapters.description import DEFAULT_SESSION, EcuDescription
from ecu_adapters.simulation import Fault
from ecu_adapters.simulator.clock import Clock, Timer
from ecu_adapters.simulator.faults import FaultInjector
from ecu_adapters.simulator.rules import Call, Refused, Service, first_refusal, is_silent
from ecu_adapters.simulator.services import services_of
from ecu_adapters.simulator.state import Communication, EcuState, Outlet
from ecu_adapters.uds.names import NEGATIVE, PENDING, POSITIVE_OFFSET

_EARLY = 0.7
"""A 0x78 is sent after this share of P2 or P2*, so that it is there in time on a busy machine too."""
_SHORTEST_PENDING_S = 0.01
"""Between two 0x78 that a fault asks for: without end and without pause they would stop everybody."""
_BUSY = 0x21
_RESPONSE_TOO_LONG = 0x14
_PROGRAMMING_FAILED = 0x72
_TESTER_PRESENT = 0x3E
_SPOILT = frozenset({"no_answer", "garbage", "other_service", "truncated"})
"""Faults that act on a request as always, and then spoil the answer."""


@dataclass(slots=True)
class ServerStats:
    """Counters since the server was made."""

    requests: int = 0
    negative: int = 0
    pending: int = 0
    unanswered: int = 0
    """Requests whose answer was suppressed, or that came while booting."""
    session_timeouts: int = 0


class UdsServer:
    """One ECU's server. Not thread-safe: use it where its clock makes its calls."""

    def __init__(
        self,
        ecu: EcuDescription,
        clock: Clock,
        transmit: Callable[[bytes], None],
        *,
        services: Mapping[int, Service] | None = None,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
        on_silence: Callable[[bool], None] | None = None,
        on_communication: Callable[[Communication], None] | None = None,
        transmit_periodic: Callable[[bytes], None] | None = None,
        faults: FaultInjector | None = None,
    ) -> None:
        """``on_silence`` is told when booting begins (True) and ends (False), ``on_communication`` of 0x28.

        ``transmit_periodic`` takes the frames of 0x2A where they have an arbitration ID of their own.
        """
        self.ecu = ecu
        outlet = _ServerOutlet(self, on_communication, transmit_periodic)
        self.state = EcuState(ecu, clock, outlet=outlet, random_bytes=random_bytes)
        self.stats = ServerStats()
        self.booting = False
        """After a reset, or without power: the ECU neither listens nor speaks."""
        self.on_reset: Callable[[], None] | None = None
        """Told of every reset that a request brought, before booting begins."""
        self.commit: Callable[[Callable[[bool], None]], None] | None = None
        """Makes last what was written, and then tells whether it could; None: nothing lasts."""
        self.on_idle: Callable[[], None] | None = None
        """Told whenever a request is done with."""
        self.faults = faults or FaultInjector(ecu.simulation.faults)
        self._clock = clock
        self._transmit = transmit
        self._services = services_of(ecu) if services is None else services
        self._on_silence = on_silence
        self._in_work: Call | None = None
        self._pending_sent = False
        self._fault: Fault | None = None
        self._pending_left: int | None = 0
        """0x78 that a fault still asks for; None: without end."""
        self._work: Timer | None = None
        self._pending: Timer | None = None
        self._s3: Timer | None = None

    @property
    def busy(self) -> bool:
        """Whether a request is in work."""
        return self._in_work is not None

    def receive(self, pdu: bytes, functional: bool = False) -> None:
        """Takes a request; answers come through ``transmit``, at once or later."""
        if not pdu:
            return
        self.stats.requests += 1
        if self.booting:
            self.stats.unanswered += 1
            return
        call = Call(self.state, self._services, pdu, functional)
        if self._in_work is not None:
            self._while_busy(call)
            return
        self._stop(self._s3)
        self._in_work = call
        self._pending_sent = False
        self._fault = self.faults.for_answer(pdu[0])
        delay_s = self._work_s(call)
        if self._fault is not None and self._fault.kind == "pending":
            self._pending_left = self._fault.count
            self._send_pending()
            return
        if self._fault is not None and self._fault.kind == "slow":
            # Too late, and without a word: no 0x78.
            self._work = self._clock.call_later(delay_s + self._fault.delay_ms / 1000, self._finish)
            return
        if delay_s <= 0:
            self._finish()
            return
        self._work = self._clock.call_later(delay_s, self._finish)
        if delay_s > self.state.p2_ms / 1000:
            self._pending = self._clock.call_later(self.state.p2_ms / 1000 * _EARLY, self._send_pending)

    def power(self, on: bool, boot_s: float = 0) -> None:
        """Without power the ECU is silent and forgets what needs it; with it, the ECU boots for ``boot_s``."""
        self.stop()
        self.state.power_up()
        self._set_booting(True)
        if on:
            self._work = self._clock.call_later(boot_s, lambda: self._set_booting(False))

    def reset(self) -> None:
        """As ECUReset does, but nobody has asked by diagnostics."""
        self._stop(self._work)
        self._stop(self._pending)
        self._in_work = None
        self._boot()

    def relent(self) -> None:
        """Faults were cleared: a request that is answered with 0x78 for ever is done with."""
        if self._in_work is not None and self._fault is not None and self._fault.kind == "pending":
            self._finish()

    def speak(self, pdu: bytes) -> None:
        """Sends what nobody has asked for just now, unless the ECU is booting."""
        if not self.booting:
            self._transmit(pdu)

    def respond(self, request: bytes) -> None:
        """Sends the positive response to a request that nobody has sent, after what is being done now."""
        self._clock.call_later(0, lambda: self._respond(request))

    def stop(self) -> None:
        """Drops the request in work and all timers."""
        self.state.periodic.stop_all()
        for timer in (self._work, self._pending, self._s3):
            self._stop(timer)
        self._in_work = None

    def _while_busy(self, call: Call) -> None:
        # TesterPresent without answer is what keeps a session through a long request: nothing to do, nothing to say.
        if call.pdu[0] == _TESTER_PRESENT and call.suppressed:
            self.stats.unanswered += 1
        elif not call.functional:
            self._refuse(call, _BUSY)

    def _work_s(self, call: Call) -> float:
        """How long the request takes. A refused one takes no longer than any other."""
        behaviour = self.ecu.simulation
        service = call.service
        own_s = behaviour.service_delay_ms.get(call.pdu[0], 0) / 1000 if behaviour.service_delay_ms else 0
        slow = service is not None and service.work_s is not None
        if (own_s or slow) and first_refusal(call) is not None:
            own_s = 0
        elif service is not None and service.work_s is not None:
            own_s = max(own_s, service.work_s(call))
        return max(own_s, behaviour.response_delay_ms / 1000)

    def _send_pending(self) -> None:
        call = self._in_work
        if call is None:
            return
        self._pending_sent = True
        self.stats.pending += 1
        self._transmit(bytes((NEGATIVE, call.pdu[0], PENDING)))
        if self._fault is not None and self._fault.kind == "pending":
            self._stall()
            return
        self._pending = self._clock.call_later(self.state.p2_star_ms / 1000 * _EARLY, self._send_pending)

    def _stall(self) -> None:
        """The next 0x78 that a fault asks for, or the end of it."""
        if self._pending_left is not None:
            self._pending_left -= 1
        over = self._pending_left is not None and self._pending_left <= 0
        step = self._finish if over else self._send_pending
        asked_s = self._fault.delay_ms / 1000 if self._fault is not None else 0.0
        asked_s = max(asked_s, _SHORTEST_PENDING_S)
        self._pending = self._clock.call_later(min(asked_s, self.state.p2_star_ms / 1000 * _EARLY), step)

    def _finish(self) -> None:
        call, self._in_work = self._in_work, None
        self._stop(self._pending)
        if call is None:
            return
        fault, self._fault = self._fault, None
        nrc = fault.nrc if fault is not None and fault.kind == "nrc" else first_refusal(call)
        service = call.service
        response = b""
        if nrc is None and service is not None:
            try:
                response = bytes((service.sid + POSITIVE_OFFSET,)) + service.act(call)
            except Refused as refused:
                nrc = refused.nrc
            if len(response) > self.ecu.max_pdu:
                nrc = _RESPONSE_TOO_LONG
            if nrc is None and service.commits and self.commit is not None:
                self._commit(self.commit, call, fault, response)
                return
        self._deliver(call, fault, response, nrc)

    def _commit(
        self, commit: Callable[[Callable[[bool], None]], None], call: Call, fault: Fault | None, response: bytes
    ) -> None:
        """The answer comes when the memory has taken it; the request is in work until then."""
        self._in_work = call
        self._pending = self._clock.call_later(self.state.p2_ms / 1000 * _EARLY, self._send_pending)

        def done(written: bool) -> None:
            if self._in_work is call:  # else power was lost meanwhile
                self._in_work = None
                self._stop(self._pending)
                self._deliver(call, fault, response, None if written else _PROGRAMMING_FAILED)

        commit(done)

    def _deliver(self, call: Call, fault: Fault | None, response: bytes, nrc: int | None) -> None:
        service = call.service
        if fault is not None and fault.kind in _SPOILT:
            self._spoil(fault, response or bytes((NEGATIVE, call.pdu[0], nrc or 0)))
        elif nrc is not None:
            self._refuse(call, nrc)
        elif call.suppressed and not self._pending_sent:
            self.stats.unanswered += 1
        else:
            self._transmit(response)
        if nrc is None and service is not None and service.resets:
            self._boot()
        elif self.state.session != DEFAULT_SESSION:
            self._s3 = self._clock.call_later(self.ecu.timing.s3_ms / 1000, self._session_timeout)
        if self.on_idle is not None:
            self.on_idle()

    def _spoil(self, fault: Fault, response: bytes) -> None:
        if fault.kind == "garbage":
            self._transmit(fault.data)
        elif fault.kind == "other_service":
            self._transmit(bytes((response[0] ^ 0x01,)) + response[1:])
        elif fault.kind == "truncated":
            self._transmit(response[: fault.length])

    def _respond(self, request: bytes) -> None:
        call = Call(self.state, self._services, request)
        service = call.service
        if self.booting or service is None or first_refusal(call) is not None:
            return
        response = bytes((service.sid + POSITIVE_OFFSET,)) + service.act(call)
        if len(response) <= self.ecu.max_pdu:
            self._transmit(response)

    def _refuse(self, call: Call, nrc: int) -> None:
        if is_silent(nrc, call, pending_sent=self._pending_sent):
            self.stats.unanswered += 1
            return
        self.stats.negative += 1
        self._transmit(bytes((NEGATIVE, call.pdu[0], nrc)))

    def _boot(self) -> None:
        if self.on_reset is not None:
            self.on_reset()
        self._stop(self._s3)
        self.state.power_up()
        reset_s = self.ecu.simulation.reset_ms / 1000
        if reset_s > 0:
            self._set_booting(True)
            self._work = self._clock.call_later(reset_s, lambda: self._set_booting(False))

    def _set_booting(self, booting: bool) -> None:
        self.booting = booting
        if self._on_silence is not None:
            self._on_silence(booting)

    def _session_timeout(self) -> None:
        self.stats.session_timeouts += 1
        self.state.authenticated = False
        self._session_default()

    def _session_default(self) -> None:
        self._stop(self._s3)
        self.state.enter_session(DEFAULT_SESSION)

    @staticmethod
    def _stop(timer: Timer | None) -> None:
        if timer is not None:
            timer.cancel()


class _ServerOutlet(Outlet):
    """The state's way out through its server."""

    def __init__(
        self,
        server: UdsServer,
        on_communication: Callable[[Communication], None] | None,
        transmit_periodic: Callable[[bytes], None] | None,
    ) -> None:
        self._server = server
        self._on_communication = on_communication
        self._transmit_periodic = transmit_periodic

    def send(self, pdu: bytes) -> None:
        self._server.speak(pdu)

    def send_periodic(self, data: bytes) -> None:
        if self._transmit_periodic is not None and not self._server.booting:
            self._transmit_periodic(data)

    def respond(self, request: bytes) -> None:
        self._server.respond(request)

    def communicate(self, communication: Communication) -> None:
        if self._on_communication is not None:
            self._on_communication(communication)

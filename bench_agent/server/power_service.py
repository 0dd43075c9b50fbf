"""Power supplies over gRPC."""

import asyncio
import math

from bench_agent.protocol import power_pb2, power_pb2_grpc
from bench_agent.server.agent_supply import Channel, Measured
from bench_agent.server.door import Context
from bench_agent.server.errors import invalid
from bench_agent.server.leased import Leased
from ecu_adapters.power.profile import BUILT_IN, Point, VoltageProfile, profile, steps
from ecu_adapters.yaml_file import nearest

LONGEST_CYCLE_S = 3600.0
_EVENTS = 1024
"""Steps of a profile that wait to be reported."""


class PowerServicer(Leased, power_pb2_grpc.PowerServicer):
    """Methods as in power.proto. The door has admitted the caller before any of them runs."""

    async def Channels(self, request: power_pb2.PowerChannelsRequest, context: Context) -> power_pb2.PowerChannelsReply:
        """All channels, as they were last heard of."""
        return power_pb2.PowerChannelsReply(channels=[_channel(one) for one in self.bench().power.channels.values()])

    async def Switch(self, request: power_pb2.PowerSwitchRequest, context: Context) -> power_pb2.PowerChannel:
        """On or off."""
        channel = self._named(request.channel)
        await channel.supply.switch(channel, request.on)
        return _channel(channel)

    async def Cycle(self, request: power_pb2.PowerCycleRequest, context: Context) -> power_pb2.PowerChannel:
        """Off, a pause, and on."""
        channel = self._named(request.channel)
        if not 1 <= request.off_ms <= LONGEST_CYCLE_S * 1000:
            raise invalid(f"off_ms is {request.off_ms}; it must be 1 .. {LONGEST_CYCLE_S * 1000:.0f}")
        await channel.supply.switch(channel, False)
        await asyncio.sleep(request.off_ms / 1000)
        await channel.supply.switch(channel, True)
        return _channel(channel)

    async def Set(self, request: power_pb2.PowerSetRequest, context: Context) -> power_pb2.PowerChannel:
        """Voltage and current limit."""
        channel = self._named(request.channel)
        voltage = request.voltage if request.HasField("voltage") else None
        current = request.current_limit if request.HasField("current_limit") else None
        if voltage is None and current is None:
            raise invalid("neither voltage nor current_limit is given")
        await channel.supply.set(channel, voltage=voltage, current=current)
        return _channel(channel)

    async def Measure(self, request: power_pb2.PowerMeasureRequest, context: Context) -> power_pb2.PowerReading:
        """What a channel delivers now."""
        channel = self._named(request.channel)
        return _reading(await channel.supply.measure(channel))

    async def Measurements(
        self, request: power_pb2.PowerMeasurementsRequest, context: Context
    ) -> power_pb2.PowerMeasurementsReply:
        """What was measured during this lease."""
        history = self._named(request.channel).history
        return power_pb2.PowerMeasurementsReply(
            readings=[_reading(one) for one in history if one.time_ns > request.since_ns]
        )

    async def Profile(  # type: ignore[override]  # grpc.aio also takes coroutines that write to the context
        self, request: power_pb2.PowerProfileRequest, context: Context
    ) -> None:
        """Plays voltage over time."""
        channel = self._named(request.channel)
        wanted = _wanted(request)
        step_s = request.step_ms / 1000 or channel.supply.step_s
        if step_s < channel.supply.step_s:
            raise invalid(
                f"step_ms is {request.step_ms}; supply {channel.supply.name} follows at most every "
                f"{channel.supply.step_s * 1000:g} ms"
            )
        planned = steps(wanted, step_s)
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[power_pb2.PowerProfileEvent | None] = asyncio.Queue(_EVENTS)
        unreported = 0

        def offer(step: power_pb2.PowerProfileStep) -> None:
            nonlocal unreported
            try:
                events.put_nowait(power_pb2.PowerProfileEvent(step=step))
            except asyncio.QueueFull:
                unreported += 1

        def report(point: Point, at_s: float) -> None:
            step = power_pb2.PowerProfileStep(
                planned_ms=point.at_s * 1000, achieved_ms=at_s * 1000, voltage=point.voltage
            )
            loop.call_soon_threadsafe(offer, step)

        playing = asyncio.create_task(channel.supply.play(channel, wanted.name, planned, report))
        playing.add_done_callback(lambda _: _end(events))
        try:
            started = power_pb2.PowerProfileStarted(
                source=wanted.source,
                duration_ms=wanted.duration_s * 1000,
                steps=len(planned),
                step_ms=math.ceil(step_s * 1000),
            )
            await context.write(power_pb2.PowerProfileEvent(started=started))
            while (event := await events.get()) is not None:
                await context.write(event)
            played = await playing
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)
        done = power_pb2.PowerProfileDone(
            steps=len(played.achieved), skipped=played.skipped, worst_ms=played.worst_s * 1000, unreported=unreported
        )
        await context.write(power_pb2.PowerProfileEvent(done=done))

    async def Profiles(self, request: power_pb2.PowerProfilesRequest, context: Context) -> power_pb2.PowerProfilesReply:
        """The built-in profiles."""
        return power_pb2.PowerProfilesReply(
            profiles=[
                power_pb2.PowerProfileInfo(
                    name=one.name,
                    source=one.source,
                    points=[power_pb2.PowerPoint(at_ms=p.at_s * 1000, voltage=p.voltage) for p in one.points],
                )
                for one in BUILT_IN.values()
            ]
        )

    def _named(self, name: str) -> Channel:
        return self.bench().power.channel(name)


def _end(events: "asyncio.Queue[power_pb2.PowerProfileEvent | None]") -> None:
    """Steps that nobody has read by now make room for the end."""
    if events.full():
        events.get_nowait()
    events.put_nowait(None)


def _wanted(request: power_pb2.PowerProfileRequest) -> VoltageProfile:
    if request.points:
        try:
            return profile(request.name or "of points", [(point.at_ms, point.voltage) for point in request.points])
        except ValueError as error:
            raise invalid(str(error)) from error
    found = BUILT_IN.get(request.name)
    if found is None:
        raise invalid(f"there is no power profile {request.name!r}; {nearest(request.name, BUILT_IN)}")
    return found


def _reading(measured: Measured) -> power_pb2.PowerReading:
    return power_pb2.PowerReading(
        time_ns=measured.time_ns, voltage=measured.reading.voltage, current=measured.reading.current
    )


def _channel(channel: Channel) -> power_pb2.PowerChannel:
    states = {None: power_pb2.POWER_STATE_UNKNOWN, False: power_pb2.POWER_OFF, True: power_pb2.POWER_ON}
    return power_pb2.PowerChannel(
        name=channel.name,
        supply=channel.supply.name,
        terminal=channel.terminal,
        state=states[channel.on],
        voltage=channel.voltage,
        current_limit=channel.current_limit,
        max_voltage=channel.config.highest_voltage,
        max_current=channel.config.highest_current,
        reading=_reading(channel.history[-1]) if channel.history else None,
        fault=channel.supply.fault or "",
        settable=channel.supply.settable,
    )

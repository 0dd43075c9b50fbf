"""RoutineControl (0x31): start, stop and results of the routines that the description names."""

from collections.abc import Mapping

from ecu_adapters import records
from ecu_adapters.coding import Scalar
from ecu_adapters.dids import Access
from ecu_adapters.routines import Routine, Step
from ecu_adapters.simulator.memory import MemoryFault, Range
from ecu_adapters.simulator.routine_run import RoutineRun, perform, status
from ecu_adapters.simulator.rules import Call, Refused, Rule, Service, access_rows

_START, _STOP, _RESULTS = 0x01, 0x02, 0x03
_SOURCE = "ISO 14229-1:2020, 13.2"
_OPTION = 4
"""Where the option record begins."""


def _number(call: Call) -> int:
    return int.from_bytes(call.pdu[2:4], "big")


def _find(call: Call) -> Routine | None:
    routine = call.state.routines.get(_number(call))
    return routine if routine is not None and call.state.allows(routine.access) else None


def _routine(call: Call) -> Routine:
    return call.state.routines[_number(call)]


def _accesses(call: Call) -> list[Access]:
    routine = _find(call)
    return [routine.access] if routine is not None else []


def _find_step(call: Call) -> Step | None:
    routine = _routine(call)
    return {_START: routine.start, _STOP: routine.stop, _RESULTS: routine.results}.get(call.sub)


def _step(call: Call) -> Step:
    step = _find_step(call)
    assert step is not None, "the row of NRC 0x12 refuses without one"  # noqa: S101 - holds by the table's order
    return step


def _options(call: Call) -> Mapping[str, Scalar]:
    return records.decode(_step(call).options, call.pdu[_OPTION:])


def _where(call: Call) -> Range | None:
    """The memory that the routine acts on; None when nothing says so."""
    routine, options = _routine(call), _options(call)
    address, size = options.get("address"), options.get("size")
    if isinstance(address, int) and isinstance(size, int):
        return Range(address, size)
    if routine.region is not None:
        region = call.state.ecu.memory.regions[routine.region]
        return Range(region.address, region.size)
    return call.state.downloaded


def _bad_option(call: Call) -> bool:
    if not records.accepts(_step(call).options, call.pdu[_OPTION:]):
        return True
    routine = _routine(call)
    if call.sub != _START or routine.action == "none":
        return False
    where = _where(call)
    if where is None:
        return False
    region = call.state.memory.region(where)
    if region is None:
        return True
    access = region.write if routine.action == "erase" else region.read
    return access is False or not call.state.allows(access)


def _is_running(call: Call) -> bool:
    run = call.state.runs.get(_number(call))
    return run is not None and run.is_running(call.state.clock.now())


def _cannot_start(call: Call) -> bool:
    if call.sub != _START:
        return False
    return _is_running(call) or (_routine(call).action != "none" and _where(call) is None)


def _not_started(call: Call) -> bool:
    if call.sub == _STOP:
        return not _is_running(call)
    return call.sub == _RESULTS and _number(call) not in call.state.runs


def _act(call: Call) -> bytes:
    state, number, routine, step = call.state, _number(call), _routine(call), _step(call)
    answer = bytes((call.sub,)) + call.pdu[2:4]
    if call.sub == _STOP:
        state.runs[number].stopped = True
        return answer + status(step.status, {})
    if call.sub == _RESULTS:
        return answer + status(step.status, state.runs[number].found)
    try:
        found = perform(routine, state.memory, _where(call), _options(call))
    except MemoryFault:
        raise Refused(0x72) from None
    state.runs[number] = RoutineRun(state.clock.now() + routine.duration_ms / 1000 * routine.background, found)
    return answer + status(step.status, {} if routine.background else found)


def _work_s(call: Call) -> float:
    routine = _routine(call)
    return routine.duration_ms / 1000 if call.sub == _START and not routine.background else 0


SERVICE = Service(
    0x31,
    _act,
    own_subfunction=True,
    offered=lambda ecu: bool(ecu.routines),
    work_s=_work_s,
    rules=(
        Rule(0x13, "the length is below 4", _SOURCE, lambda call: len(call.pdu) < _OPTION),
        Rule(
            0x31, "the ECU does not have the routine in the active session", _SOURCE, lambda call: _find(call) is None
        ),
        *access_rows(_accesses, "the routine", _SOURCE),
        Rule(0x12, "the routine does not have the sub-function", _SOURCE, lambda call: _find_step(call) is None),
        Rule(
            0x13,
            "the length is not that of the routine's options",
            _SOURCE,
            lambda call: len(call.pdu) != _OPTION + records.length(_step(call).options),
        ),
        Rule(0x31, "an option is not allowed, or names memory that the routine cannot act on", _SOURCE, _bad_option),
        Rule(0x22, "the routine runs already, or nothing was downloaded that it could act on", _SOURCE, _cannot_start),
        Rule(0x24, "stop or results without a start before", _SOURCE, _not_started),
        Rule(
            0x21,
            "the results are not there yet",
            "chosen: ISO 14229-1 leaves it to the routine",
            lambda call: call.sub == _RESULTS and _is_running(call),
        ),
    ),
)

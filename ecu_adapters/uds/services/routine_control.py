"""RoutineControl (0x31): start and stop a routine, and ask for its results."""

from udsoncan.services.RoutineControl import RoutineControl

from ecu_adapters.routines import Routine, Step
from ecu_adapters.uds.services import arguments, results
from ecu_adapters.uds.services.base import Call, Outcome, Plain, Service, UdsInvalid

ACTIONS = {"start": 0x01, "stop": 0x02, "results": 0x03}
"""Sub-functions by name (ISO 14229-1:2020, 14.2)."""


async def _routine(use: Call, routine: Plain, action: Plain = "start", options: Plain = None) -> Outcome:
    number, name, model = arguments.routine(use.ecu, routine)
    control = arguments.named(action, ACTIONS, "action", 0x7F)
    step = _step(name, model, control)
    if step is not None:
        record = arguments.structure(step.options, options, f"options of {name}")
    else:
        record = b"" if options is None or options == [] else arguments.octets(options, f"options of {name}")
    response, exchange = await use.exchange(RoutineControl.make_request(number, control, record))
    data = RoutineControl.interpret_response(response).service_data
    answer: bytes = data.routine_status_record
    result: dict[str, Plain] = {"routine": name, "action": arguments.name_of(control, ACTIONS), "raw": answer}
    if step is not None and step.status:
        result["status"] = results.structure(use, step.status, answer, f"the status of {name}", exchange)
    return Outcome(result, exchange)


def _step(name: str, model: Routine | None, control: int) -> Step | None:
    if model is None:
        return None
    steps = {1: model.start, 2: model.stop, 3: model.results}
    if control in steps and steps[control] is None:
        has = ", ".join(action for action, number in ACTIONS.items() if steps[number] is not None)
        raise UdsInvalid(f"routine {name} has no {arguments.name_of(control, ACTIONS)}; its description has {has}")
    return steps.get(control)


SERVICES = {"routine": Service(_routine, ("routine",), ("action", "options"))}

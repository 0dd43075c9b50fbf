"""What a lease token must allow for each method: one table, in which every method that an agent offers has its entry.

The door refuses a method without an entry.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from bench_agent.protocol.claims import Scope


@dataclass(frozen=True, slots=True)
class Access:
    """What a method asks of its caller."""

    scope: Scope
    """The least that the token must allow."""
    works: bool = True
    """For as long as it runs it does something for its caller, who is not idle meanwhile.

    Otherwise it is a stream that may just lie open: only what the caller sends on it counts.
    """


READ = Access(Scope.OBSERVER)
ACT = Access(Scope.CO_DRIVER)
WATCH = Access(Scope.OBSERVER, works=False)
"""A stream to look on by. One that also takes frames or input checks the scope again when some come."""
HOLD = Access(Scope.CO_DRIVER, works=False)
"""A stream to act by, open for as long as its caller likes."""

METHODS: Mapping[str, Mapping[str, Access]] = {
    "Adapter": {"Describe": READ, "Call": ACT},
    "Bench": {"Describe": READ, "Can": WATCH, "Send": ACT, "Expect": READ, "Recent": READ, "Uds": HOLD},
    "BusMonitor": {"Stats": READ, "ExpectState": READ, "Recover": ACT, "Watch": WATCH},
    "Console": {"Stream": WATCH, "Expect": READ, "Send": ACT, "Log": READ},
    "Diagnostics": {"Functional": ACT},
    "Flash": {"Write": ACT},
    "Gateway": {"Forward": HOLD},
    "J1939": {
        "Open": ACT,
        "Close": ACT,
        "State": READ,
        "Send": ACT,
        "Request": ACT,
        "Expect": READ,
        "Receive": WATCH,
    },
    "Power": {
        "Channels": READ,
        "Switch": ACT,
        "Cycle": ACT,
        "Set": ACT,
        "Measure": READ,
        "Measurements": READ,
        "Profile": ACT,
        "Profiles": READ,
    },
    "Replay": {"Play": ACT},
    "Simulation": {
        "State": READ,
        "InjectFault": ACT,
        "ClearFaults": ACT,
        "SetVoltage": ACT,
        "SetValue": ACT,
        "SetSignal": ACT,
        "SwitchMessage": ACT,
        "ReportDtc": ACT,
        "NewCycle": ACT,
        "ReadMemory": READ,
        "WriteMemory": ACT,
        "Advance": ACT,
        "Reset": ACT,
    },
    "Traces": {"List": READ, "Fetch": READ},
    "Traffic": {
        "StartCyclic": ACT,
        "UpdateCyclic": ACT,
        "Preview": READ,
        "StartRestBus": ACT,
        "StopRestBus": ACT,
        "List": READ,
        "MeasureCycle": READ,
    },
}
"""By service and method."""

"""The simulated ECU: a UDS server over ISO-TP, and cyclic messages of a CAN database."""

from ecu_adapters.simulator.clock import Clock, LoopClock, VirtualClock
from ecu_adapters.simulator.ecu import SimulatedEcu
from ecu_adapters.simulator.server import UdsServer

__all__ = ["Clock", "LoopClock", "SimulatedEcu", "UdsServer", "VirtualClock"]

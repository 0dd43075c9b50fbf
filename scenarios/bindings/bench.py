"""The module bench: what the run has leased."""

from scenarios.bindings.context import Context
from scenarios.sandbox import Function


class BenchBindings:
    """Functions of the module bench."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (self.bench, self.describe)

    def bench(self) -> dict[str, object]:
        """What the run knows of its bench without asking it."""
        bench = self._context.assignment["benches"][0]
        lease = {"id": self._context.assignment["lease_id"], "run": self._context.assignment["run_id"]}
        return {"name": bench["name"], "labels": dict(bench["labels"]), "lease": lease}

    def describe(self) -> dict[str, object]:
        """Buses and ECUs of the bench."""
        with self._context.bench_faults():
            description = self._context.opened().describe()
        return {
            "buses": [
                {"name": bus.name, "interface": bus.interface, "fd": bus.fd, "messages": list(bus.messages)}
                for bus in description.buses
            ],
            "ecus": [
                {
                    "name": ecu.name,
                    "bus": ecu.bus,
                    "simulated": ecu.simulated,
                    "dids": [{"name": did.name, "did": did.did, "unit": did.unit} for did in ecu.dids],
                }
                for ecu in description.ecus
            ],
        }

"""The module bench: what the run has leased."""

from scenarios.bindings.context import Context
from scenarios.sandbox import Function, ScenarioFault
from scenarios.values import from_json


class BenchBindings:
    """Functions of the module bench."""

    def __init__(self, context: Context) -> None:
        self._context = context

    @property
    def functions(self) -> tuple[Function, ...]:
        """What scripts call, through the module."""
        return (self.bench, self.bench_number, self.at_bench, self.describe, self.adapter_open, self.adapter_call)

    def bench_number(self, which: object) -> int:
        """The number, from 1, of a bench of the run, by name or by that number."""
        names = [bench["name"] for bench in self._context.assignment["benches"]]
        if isinstance(which, int) and 1 <= which <= len(names):
            return which
        if which in names:
            return names.index(str(which)) + 1
        known = f"it has {', '.join(names)}, by name or as 1 to {len(names)}"
        raise ScenarioFault("invalid", f"the run has leased no bench {which!r}; {known}")

    def at_bench(self, number: int) -> None:
        """The script's calls are for this bench from now on."""
        self._context.bench = number - 1

    def bench(self) -> dict[str, object]:
        """What the run knows of its bench without asking it."""
        benches = self._context.assignment["benches"]
        bench = benches[self._context.bench]
        lease = {"id": self._context.assignment["lease_id"], "run": self._context.assignment["run_id"]}
        names = [one["name"] for one in benches]
        return {"name": bench["name"], "labels": dict(bench["labels"]), "lease": lease, "names": names}

    def adapter_open(self, name: str) -> str:
        """Looks whether there is such an adapter."""
        with self._context.bench_faults():
            return self._context.opened().adapter(name).name

    def adapter_call(self, name: str, method: str, arguments: str) -> object:
        """Calls a method of a device: with a list of arguments, or with a table of named ones."""
        given = from_json(arguments) or []
        positional, named = (given, {}) if isinstance(given, list) else ([], given)
        with self._context.bench_faults():
            result = self._context.opened().adapter(name).call(method, *positional, **named)
        self._context.record.step(f"{name} {method}({', '.join(map(str, positional or named.items()))})")
        return result

    def describe(self) -> dict[str, object]:
        """What the bench carries."""
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
            "consoles": [
                {"name": console.name, "port": console.port, "baudrate": console.baudrate}
                for console in description.consoles
            ],
            "power": [
                {"name": channel.name, "supply": channel.supply, "driver": channel.driver, "terminal": channel.terminal}
                for channel in description.power
            ],
            "adapters": [
                {"name": adapter.name, "driver": adapter.driver, "methods": list(adapter.methods)}
                for adapter in description.adapters
            ],
        }

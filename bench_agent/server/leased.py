"""What the gRPC services of an agent share: they act on the bench of the call's lease."""

from collections.abc import Mapping

from bench_agent.server.bench import Bench
from bench_agent.server.door import current_call


class Leased:
    """Base of a servicer whose methods the door guards."""

    def __init__(self, benches: Mapping[str, Bench]) -> None:
        self._benches = benches

    def bench(self) -> Bench:
        """The bench that the running call was admitted to."""
        return self._benches[current_call().claims.bench]

"""What one run, and one request, may use."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RunLimits:
    """Bounds of a run."""

    memory_bytes: int = 256 * 1024 * 1024
    """Of the Lua runtime; the runner keeps to it."""
    output_bytes: int = 8 * 1024 * 1024
    """Of log text; the runner keeps to it and counts what it drops. labd takes a little more before it refuses."""
    start_s: float = 600.0
    """From a pod's bench until its runner shows up, at most: a node may have to start and an image to be pulled. Its
    executor gives up sooner where it sees why."""
    grace_s: float = 10.0
    """From the run's own deadline, which the runner keeps, until labd ends it."""
    ttl_s: float = 30.0
    """Of the run's lease, from one heartbeat of the runner to the next."""

    @property
    def stored_output_bytes(self) -> int:
        """Most log text that labd stores for a run."""
        return self.output_bytes + 1024 * 1024

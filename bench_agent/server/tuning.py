"""How the agent's process treats its memory."""

import gc

_THRESHOLDS = (20_000, 20, 20)


def settle() -> None:
    """To be called once the agent is up, in a process that is the agent's own.

    What the start has built (modules, databases, descriptions) lives as long as the process. Left to the collector, it
    is walked again and again as frames come and go, tens of milliseconds each time: five percent of the throughput,
    and the longest delays of a diagnostic exchange.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_THRESHOLDS)

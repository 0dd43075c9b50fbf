"""What the benches of a storm are called, and what they are."""

PLATFORMS = ("meb", "mqb", "ppe")


def bench_name(number: int) -> str:
    """The bench of an agent, counted from 1."""
    return f"hil-{number:02}"

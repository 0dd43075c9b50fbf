"""What this client calls itself: labd refuses one of a release that does not go with its own."""

from bench_agent.protocol.release import VERSION

USER_AGENT = f"labd-client/{VERSION}"

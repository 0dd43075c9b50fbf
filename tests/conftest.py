"""For all tests: properties are searched, not timed; how fast things are is what tests/benchmarks is for."""

from hypothesis import settings

settings.register_profile("labd", deadline=None)
settings.load_profile("labd")

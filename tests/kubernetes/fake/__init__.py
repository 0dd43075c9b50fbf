"""A fake Kubernetes API server for tests: objects in memory, the real protocol over HTTP, and switches to hurt it."""

from tests.kubernetes.fake.server import FakeApiServer

__all__ = ["FakeApiServer"]

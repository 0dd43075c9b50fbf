"""The version of this labd."""

from importlib.metadata import PackageNotFoundError, version


def _installed() -> str:
    try:
        return version("labd")
    except PackageNotFoundError:
        return "0+source"


VERSION = _installed()
"""Of the installed distribution; ``0+source`` when labd runs from a source tree that is not installed."""

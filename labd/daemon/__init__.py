"""The program ``labd``: the commands, and how the daemon is put together, started and stopped."""

from labd.daemon.commands import main

__all__ = ["main"]

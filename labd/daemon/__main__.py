"""``python -m labd.daemon``."""

from labd.daemon.commands import main

main()

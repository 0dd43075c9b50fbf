"""Runs a module with ``labd://`` known to pyserial: ``python -m labd.pyserial_handlers MODULE [ARGUMENT...]``."""

import runpy
import sys

import serial


def main() -> None:
    """For example ``python -m labd.pyserial_handlers serial.tools.miniterm labd://bench-1/linux``."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        sys.exit(f"usage: python -m labd.pyserial_handlers MODULE [ARGUMENT...]\n\n{main.__doc__}")
    serial.protocol_handler_packages.append("labd.pyserial_handlers")
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


main()

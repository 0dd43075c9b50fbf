"""Consoles of leased benches for pyserial: ``serial.serial_for_url("labd://BENCH/CONSOLE")``.

pyserial looks for handlers in the packages that a program names::

    serial.protocol_handler_packages.append("labd.pyserial_handlers")

Programs that are not to be changed run under ``python -m labd.pyserial_handlers``.
"""

"""Drivers for what a bench is wired to: CAN buses, ISO-TP, UDS, CAN databases, and simulated ECUs."""

"""Flashing an ECU (ISO 14229-1, upload and download): images, the plan made of them, and its execution."""

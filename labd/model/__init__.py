"""The nouns of the lab and their state machines. Pure: no I/O, no clock, no framework."""

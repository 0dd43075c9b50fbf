"""Messages sent with a period: what they carry, when they are due, and the one thread that sends them all."""

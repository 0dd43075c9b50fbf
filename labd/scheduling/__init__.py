"""Who gets which bench: pure functions of the queue and the benches."""

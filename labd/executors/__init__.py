"""Where a run's process lives: one small interface, one file each."""

"""TestRuns in a cluster, made runs of labd: ``labd operator``. A client of both, of neither's inside."""

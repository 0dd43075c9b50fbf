"""The use cases: leasing, running, fleet. The only writers of the store."""

"""The ``kubernetes`` executor: each attempt of a run is a pod of its own, in one of several clusters."""

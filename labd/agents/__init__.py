"""The door that the agents come in by."""

"""The door that people, CI and runners come in by."""

"""The Lua scenarios: sandbox, modules, and the runner that executes one run (``python -m scenarios``)."""

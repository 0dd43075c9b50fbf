"""``python -m scenarios``: the process in which a run's script runs. labd starts it."""

import os
import sys

from scenarios.runner import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# Not sys.exit: a script that could not be stopped still has its thread.
os._exit(code)

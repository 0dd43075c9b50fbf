"""``python -m scenarios``: the process in which a run's script runs. labd starts it."""

import os
import sys
import traceback

from scenarios.runner import ERROR, main

try:
    code = main()
except BaseException:  # the exit code of an uncaught exception would say that a check has failed
    traceback.print_exc()
    code = ERROR
sys.stdout.flush()
sys.stderr.flush()
# Not sys.exit: a script that could not be stopped still has its thread.
os._exit(code)

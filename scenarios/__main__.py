"""``python -m scenarios``: the process in which a run's script runs. labd or a bench's agent starts it.

``pod`` does the same in a test pod, which has to prove which one it is; ``nursery`` forks such processes, each for a
run, when labd asks it to. ``hook FOLDER`` runs a bench's hook instead, ``check FILE...`` only looks at the syntax of
scripts.
"""

import importlib
import os
import sys
import traceback
from pathlib import Path

ERROR = 2
NEEDED_LATER = ("bench_agent.client", "scenarios.junit")
"""Modules that most runs come to import, each when it gets there."""


def _main(arguments: list[str]) -> int:
    match arguments:
        case []:
            from scenarios.runner import main

            return main()
        case ["pod"]:
            from scenarios.pod import main as run_in_pod

            return run_in_pod()
        case ["nursery"]:
            from runners.nursery_process import serve
            from scenarios.runner import main

            for module in NEEDED_LATER:
                importlib.import_module(module)
            return serve(main)
        case ["hook", folder]:
            from scenarios.hook import main as run_hook

            return run_hook(Path(folder))
        case ["check", *files]:
            from scenarios.check import main as check

            return check(files)
    sys.stderr.write("usage: python -m scenarios [pod | nursery | hook FOLDER | check FILE...]\n")
    return ERROR


try:
    code = _main(sys.argv[1:])
except BaseException:  # the exit code of an uncaught exception would say that a check has failed
    traceback.print_exc()
    code = ERROR
sys.stdout.flush()
sys.stderr.flush()
# Not sys.exit: a script that could not be stopped still has its thread.
os._exit(code)

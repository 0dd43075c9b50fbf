"""A module run under a wrong date: ``python -m tests.integration.wrong_date SECONDS MODULE ARGUMENTS...``"""

import runpy
import sys
import time


def main() -> None:
    """Sets this process's date forward by so many seconds (or back, below 0), and becomes the module."""
    off_by, module = float(sys.argv[1]), sys.argv[2]
    right = time.time
    time.time = lambda: right() + off_by
    sys.argv = [module, *sys.argv[3:]]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()

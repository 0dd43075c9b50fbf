"""A thousand agents have a thousand connections, more files than many systems let a process open unless it asks."""

import resource
import subprocess
import sys

_PROGRAM = """
import resource
from labd.daemon.serving import allow_many_files

most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, most))
allow_many_files()
print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
"""


def test_labd_opens_as_many_files_as_it_may() -> None:
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == resource.getrlimit(resource.RLIMIT_NOFILE)[1]

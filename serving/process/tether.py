"""Runs a service that ends with the process that started it: `python -m serving.process.tether PACKAGE ARGUMENT...`.

The process that started the service holds the other end of its standard input. The pipe closes when that process
ends, even by SIGKILL. A pipe needs no change in the services and works on macOS. Linux's PR_SET_PDEATHSIG would also
fire when only the starting thread ends.

What a service imports takes seconds to load; those that serve already keep the CPUs meanwhile. Then the function `main`
of the package's `__main__` runs.
"""

import os
import signal
import sys
import threading
from importlib import import_module

from offers.background import in_background


def _end_with_the_pipe() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    sys.argv = sys.argv[1:]
    in_background(lambda: import_module(f"{sys.argv[0]}.__main__")).main()

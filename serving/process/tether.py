"""Runs a service that ends with the process that started it: `python -m serving.process.tether MODULE ARGUMENT...`.

The process that started the service holds the other end of its standard input. The pipe closes when that process
ends, even by SIGKILL. A pipe needs no change in the services and works on macOS. Linux's PR_SET_PDEATHSIG would also
fire when only the starting thread ends.
"""

import os
import runpy
import signal
import sys
import threading


def _end_with_the_pipe() -> None:
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_end_with_the_pipe, daemon=True).start()
    sys.argv = sys.argv[1:]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)

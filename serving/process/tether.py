"""Runs a service that ends with the process that started it: `python -m serving.process.tether MODULE ARGUMENT...`.

That process holds the other end of our standard input, which closes when it ends, even by SIGKILL. A pipe asks nothing
of the services, and is there where Linux's PR_SET_PDEATHSIG is not, which ends with the thread that started us, too.
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

"""Runs commands, so that what a page does obeys the rules that hold in a terminal."""

import os
import subprocess
import sys
from collections.abc import Sequence

from serving.app.signing import Key, person

SECONDS = 180
"""How long a command may take: a promotion waits until the services have switched."""


def run(words: Sequence[str], key: Key) -> tuple[bool, str]:
    """Run `offers WORDS`, signed by a key; returns whether it succeeded, and what it said."""
    environment = os.environ | {"OFFERS_ACCOUNT": person()}
    with key.file() as file:
        command = [sys.executable, "-m", "cli", *words, "--key", str(file)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=SECONDS, env=environment
            )
        except subprocess.TimeoutExpired:
            return False, f"It was not done within {SECONDS} seconds: 'offers model list' tells how it stands."
    said = (done.stdout if done.returncode == 0 else done.stderr).strip().splitlines()
    return done.returncode == 0, " ".join(said) or "done"

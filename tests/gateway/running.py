"""The gateway as a user starts it: the command, in a process of its own, on a free port."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


class RunningGateway:
    """Started with `--port 0`; `address` is what it printed."""

    def __init__(self, stack: Path, *options: str, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "exitramp", "gateway", "--stack", str(stack), "--port", "0", "--json", *options],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )
        assert self.process.stdout is not None
        text = ""
        while line := self.process.stdout.readline():
            text += line
            if line.startswith("}"):
                break
        self.told = json.loads(text or "{}")
        if "address" not in self.told:
            _, said = self.process.communicate(timeout=15)
            raise AssertionError(text + said)
        self.address: str = self.told["address"]
        self.root = self.address.removesuffix("/v1")

    def stop(self, seconds: float = 15.0) -> tuple[int, str]:
        """Exit code and stderr after SIGTERM."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            _, said = self.process.communicate(timeout=seconds)
        finally:
            self.process.kill()
        return self.process.returncode, said

"""A program of the user's own on the port that is held for it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exitramp.errors import RemoteError
from exitramp_adapters.services.program import ADAPTER

SERVER = """
import os, socket, sys
made = socket.socket()
if sys.argv[1] == "reuse":
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
made.bind(("127.0.0.1", int(os.environ["EXITRAMP_PORT"])))
made.listen()
made.accept()[0].recv(1)
"""


@pytest.mark.parametrize("how", ["reuse", "plain"])
def test_a_server_that_does_not_reuse_its_port_is_told_what_to_set(tmp_path: Path, how: str) -> None:
    program = ADAPTER.make(str(tmp_path), 0, {"command": ["{python}", "-c", SERVER, how]})
    try:
        if how == "reuse":
            assert program.start().scheme == "tcp"
        else:
            with pytest.raises(RemoteError, match=r"in use(.|\n)*let it set SO_REUSEADDR before it binds"):
                program.start()
    finally:
        program.stop()

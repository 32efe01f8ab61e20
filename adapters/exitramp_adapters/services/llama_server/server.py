"""The process of the llama server: checks the weights, loads them, serves until it is told to end.

python -m exitramp_adapters.services.llama_server.server --port 8801 --options '{"model": "…", …}'
"""

from __future__ import annotations

import argparse
import hashlib
import json
import signal
import sys
from pathlib import Path
from typing import Any, Final

HOST: Final = "127.0.0.1"
_ERRORS: Final = 1  # what the server prints: its errors, and nothing of what it is asked


def main() -> int:
    """Serve one model until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="exitramp llama server", description=main.__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--options", required=True, help="a JSON object")
    arguments = parser.parse_args()
    options = json.loads(arguments.options)
    problem = _problem(Path(options["model"]), options["sha256"])
    if problem is not None:
        print(f"error: {problem}", file=sys.stderr)
        return 2
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})  # before there are other threads
    server = _serve(arguments.port, options)
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    del server
    return 0


def _problem(path: Path, sha256: str | None) -> str | None:
    if sha256 is None:
        return None
    with path.open("rb") as weights:
        found = hashlib.file_digest(weights, "sha256").hexdigest()
    return None if found == sha256 else f"{path.name} has the sha256 {found}, expected {sha256}"


def _serve(port: int, options: dict[str, Any]) -> Any:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = options["model"]
    parameters.model_alias = {options["alias"]}
    parameters.hostnames = [HOST]
    parameters.port = port
    parameters.n_parallel = options["parallel"]
    parameters.n_ctx = options["context_tokens"] * options["parallel"]
    parameters.n_gpu_layers = 0
    parameters.cpuparams.n_threads = options["threads"]
    parameters.cpuparams_batch.n_threads = options["threads"]
    parameters.sampling.seed = options["seed"]
    # The same question gets the same answer, whatever was asked before it.
    parameters.cache_prompt = False
    parameters.cont_batching = True
    parameters.offline = True
    parameters.ui = False
    parameters.endpoint_slots = False
    parameters.endpoint_props = False
    parameters.verbosity = _ERRORS
    if options["chat_template"] is not None:
        parameters.chat_template = Path(options["chat_template"]).read_text("utf-8")
    if options["embeddings"]:
        parameters.embedding = True
        parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    return xllamacpp.Server(parameters)


if __name__ == "__main__":
    raise SystemExit(main())

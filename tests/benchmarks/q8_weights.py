"""Write the local model's weights in a format that xllamacpp computes with about twice as fast on a CPU.

    python -m tests.benchmarks.q8_weights /tmp/q8.gguf
    LOCAL_MODEL_WEIGHTS=/tmp/q8.gguf python -m tests.benchmarks.small_model

The package has 4 bits a weight, in a format without fast kernels (Q4_1). Q8_0 has them, and its rounding is small
beside the steps between the 16 values that a weight can have. Near ties may still end differently: of 64 replies to
prompts of the benchmark's tasks 56 were the same.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gguf  # pyright: ignore[reportMissingImports] - in the extra "benchmarks"
from gguf import quants  # pyright: ignore[reportMissingImports]

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))

from local_model import packaged_weights


def convert(source: Path, target: Path) -> None:
    """Write `source` to `target`, with its matrices in Q8_0."""
    lib: Any = gguf
    reader = lib.GGUFReader(source)
    writer = lib.GGUFWriter(target, reader.fields["general.architecture"].contents())
    for field in reader.fields.values():
        if field.name != "general.architecture" and not field.name.startswith("GGUF."):
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type=field.types[-1])
    for tensor in reader.tensors:
        values = quants.dequantize(tensor.data, tensor.tensor_type)
        if values.ndim == 1:
            writer.add_tensor(tensor.name, values)
        else:
            q8 = lib.GGMLQuantizationType.Q8_0
            writer.add_tensor(tensor.name, quants.quantize(values, q8), raw_dtype=q8)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    convert(packaged_weights(), Path(sys.argv[1]))

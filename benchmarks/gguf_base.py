"""A large GGUF as a base: time, peak memory and bytes written of `fetch` and of packing over it.

    .venv/bin/python benchmarks/gguf_base.py                     # Llama 3.1's 8 B shape in Q4_K
    .venv/bin/python benchmarks/gguf_base.py --shape llama-1b    # the same in a few minutes
    .venv/bin/python benchmarks/gguf_base.py --folder DIR        # where there are 35 GB

Generated weights (blocks of normal random numbers, repeated), real keys and vocabulary of Llama 3,
an adapter of rank 16 on every linear module. Each step is a process of its own. Memory is the
largest size of what the process holds itself (VmHWM less the pages of files that it maps, which the
system can take back), looked at ten times a second; bytes are those given to file systems.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))

# Width, inner width, layers, heads, key heads.
SHAPES = {"llama-1b": (2048, 8192, 16, 32, 8), "llama-8b": (4096, 14336, 32, 32, 8)}
VOCABULARY = 128256
STEPS = ("fetch", "pack")


def main() -> None:
    """Generate, run the steps, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="llama-8b")
    parser.add_argument("--type", default="Q4_K", help="what the base's matrices lie in")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--step", choices=STEPS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.step:
        run(given.step, given.folder)
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        generate(given.shape, given.type, Path(folder))
        size = (Path(folder) / "base.gguf").stat().st_size
        print(f"{given.shape} in {given.type}: {size / 1e9:.1f} GB")
        print(f"{'':8}{'time':>9}{'own memory':>13}{'written':>10}")
        for step in STEPS:
            seconds, memory, written = measured(step, Path(folder))
            print(f"{step:8}{seconds:7.0f} s{memory / 1e9:10.2f} GB{written / 1e9:7.1f} GB")


def measured(step: str, folder: Path) -> tuple[float, int, int]:
    """Seconds, largest own memory of the process, bytes written."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    env = {**os.environ, "PYTHONPATH": str(PROJECT), "HF_HUB_OFFLINE": "1"}
    with (folder / f"{step}.log").open("w") as log:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        most = 0
        while (found := os.wait4(process.pid, os.WNOHANG))[0] == 0:
            most = max(most, own(process.pid))
            time.sleep(0.1)
    if found[1]:
        sys.exit(f"{step} failed:\n{(folder / f'{step}.log').read_text()[-2000:]}")
    return time.monotonic() - began, most, found[2].ru_oublock * 512


def own(process: int) -> int:
    """Bytes that a process holds itself: not the pages of files that it maps."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    found = [line.split()[1] for line in lines if line.startswith(("RssAnon", "RssShmem"))]
    return 1024 * sum(map(int, found))


def run(step: str, folder: Path) -> None:
    """One step, as its stage runs it."""
    from pipeline.bases.reference import original, resolve
    from pipeline.made.artifacts import Adapter, Base, Dataset
    from pipeline.made.stage import Where
    from pipeline.stages import fetch, pack
    from pipeline.stages.settings import Fetch, Pack

    reference = resolve("./base.gguf", folder)
    where, out = Where(threads=len(os.sched_getaffinity(0)), say=print), folder / step
    out.mkdir()
    if step == "fetch":
        base = fetch.run(out, Fetch(), reference, where=where)
        (folder / "base.json").write_text(base.model_dump_json())
        return
    base = Base.model_validate_json((folder / "base.json").read_text())
    adapter = Adapter.at(
        folder / "adapter", loss=None, epochs=1, steps=1, seconds=1, tokens_per_second=1
    )
    facts = {"rows": 1, "train": 1, "validation": 0, "test": 0, "tokens": 1, "longest": 200}
    data = Dataset.at(folder / "data", longest_answer=100, uses_system=False, **facts)
    settings = Pack(quantization="Q8_0")
    pack.run(out, settings, base, adapter, data, original(reference), where=where)


def generate(shape: str, kind: str, folder: Path) -> None:
    """base.gguf, an adapter, and a row of 200 tokens."""
    import numpy as np

    from pipeline.common import places
    from pipeline.tools import ggml
    from pipeline.tools.gguf_header import Entry, header, padding
    from pipeline.tools.gguf_layout import layout
    from pipeline.tools.gguf_values import float32, text, uint32

    width, inner, layers, heads, key_heads = SHAPES[shape]
    head = width // heads
    vocabulary = layout(places.llama_cpp() / "models/ggml-vocab-llama-bpe.gguf").keys
    template = places.llama_cpp() / "models/templates/meta-llama-Llama-3.2-3B-Instruct.jinja"
    keys = {
        "general.architecture": text("llama"),
        "general.name": text("generated"),
        "llama.vocab_size": uint32(VOCABULARY),
        "llama.context_length": uint32(131072),
        "llama.embedding_length": uint32(width),
        "llama.block_count": uint32(layers),
        "llama.feed_forward_length": uint32(inner),
        "llama.rope.dimension_count": uint32(head),
        "llama.attention.head_count": uint32(heads),
        "llama.attention.head_count_kv": uint32(key_heads),
        "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
        "llama.rope.freq_base": float32(5e5),
        **{name: raw for name, raw in vocabulary.items() if name.startswith("tokenizer.")},
        "tokenizer.ggml.eos_token_id": uint32(128009),
        "tokenizer.chat_template": text(template.read_text(encoding="utf-8")),
    }
    matrices = {"output.weight": (VOCABULARY, width), "token_embd.weight": (VOCABULARY, width)}
    vectors = {"output_norm.weight": width}
    for i in range(layers):
        matrices |= {
            f"blk.{i}.attn_q.weight": (width, width),
            f"blk.{i}.attn_k.weight": (head * key_heads, width),
            f"blk.{i}.attn_v.weight": (head * key_heads, width),
            f"blk.{i}.attn_output.weight": (width, width),
            f"blk.{i}.ffn_gate.weight": (inner, width),
            f"blk.{i}.ffn_up.weight": (inner, width),
            f"blk.{i}.ffn_down.weight": (width, inner),
        }
        vectors |= {f"blk.{i}.{which}_norm.weight": width for which in ("attn", "ffn")}
    entries = [Entry(name, kind, size) for name, size in matrices.items()]
    entries += [Entry(name, "F32", (size,)) for name, size in vectors.items()]
    random = np.random.default_rng(0)
    some = {
        columns: ggml.quantize(kind, random.normal(0, 0.02, (64, columns)).astype(np.float32))
        for columns in (width, inner)
    }
    with (folder / "base.gguf").open("wb") as file:
        file.write(header(keys, entries))
        for at, entry in enumerate(entries):
            if entry.kind == "F32":
                data = np.ones(entry.shape[0], np.float32).tobytes()
            else:  # other rows first in each: no two matrices are alike
                rows = np.roll(some[entry.shape[1]], at, axis=0)
                data = b"".join([rows.tobytes()] * (entry.shape[0] // 64))
            file.write(data + bytes(padding(entry.size)))
    _write_adapter(folder / "adapter", shape)
    _write_row(folder / "data")


def _write_adapter(folder: Path, shape: str) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    width, inner, layers, heads, key_heads = SHAPES[shape]
    keys = width // heads * key_heads
    modules = {
        "self_attn.q_proj": (width, width),
        "self_attn.k_proj": (keys, width),
        "self_attn.v_proj": (keys, width),
        "self_attn.o_proj": (width, width),
        "mlp.gate_proj": (inner, width),
        "mlp.up_proj": (inner, width),
        "mlp.down_proj": (width, inner),
    }
    random = np.random.default_rng(1)
    factors = {}
    for i in range(layers):
        for module, (rows, columns) in modules.items():
            name = f"base_model.model.model.layers.{i}.{module}"
            factors[f"{name}.lora_A.weight"] = random.normal(0, 0.02, (16, columns))
            factors[f"{name}.lora_B.weight"] = random.normal(0, 0.02, (rows, 16))
    folder.mkdir()
    save_file(
        {name: factor.astype(np.float32) for name, factor in factors.items()},
        folder / "adapter_model.safetensors",
    )
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": 16,
        "lora_alpha": 16,
        "bias": "none",
        "target_modules": sorted({module.rpartition(".")[2] for module in modules}),
    }
    (folder / "adapter_config.json").write_text(json.dumps(config))


def _write_row(folder: Path) -> None:
    folder.mkdir()
    ids = list(range(1000, 1200))
    row = {"messages": [], "sequences": [{"ids": ids, "labels": [-100] * 100 + ids[100:]}]}
    for part in ("train", "validation", "test"):
        (folder / f"{part}.jsonl").write_text(json.dumps(row) + "\n" if part == "train" else "")


if __name__ == "__main__":
    main()

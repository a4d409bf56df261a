"""Packing against Unsloth's exporter and against the long road: time, memory, bytes written.

    .venv/bin/python benchmarks/pack.py                       # 1.24 billion weights; half an hour
    .venv/bin/python benchmarks/pack.py --shape smollm2-135m --type Q8_0
    .venv/bin/python benchmarks/pack.py --shape llama-3b --sides stream,stream-cold
    .venv/bin/python benchmarks/pack.py --profile             # where the stream's time goes

Generated weights, an adapter of rank 16 on every linear module, Q4_K_M. Each side is a whole
process from base and adapter to the finished file, in turn, several rounds; the table has medians.
Memory is the largest resident size of the process and its children; bytes are those given to file
systems. The sides:

    stream       ours, with the outline that `fetch` keeps beside a base
    stream-cold  ours, with the outline made first
    unsloth      FastLanguageModel, save_pretrained_gguf, with a llama.cpp that is there already
    long         PEFT's merge, llama.cpp's converter, llama-quantize
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PROJECT = Path(__file__).parent.parent
sys.path.insert(0, str(PROJECT))

# Width, inner width, layers, heads, key heads, vocabulary; the larger two are those of Llama 3.2.
SHAPES = {
    "smollm2-135m": (576, 1536, 30, 9, 3, 49152),
    "llama-0.5b": (1280, 5120, 12, 20, 4, 128256),
    "llama-1b": (2048, 8192, 16, 32, 8, 128256),
    "llama-3b": (3072, 8192, 28, 24, 8, 128256),
}
SHARD = 1 << 30  # bytes: a base is generated file by file
ROPE = {
    "rope_type": "llama3",
    "factor": 32.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8192,
}
UNSLOTH = """
import sys
from unsloth import FastLanguageModel
model, tokenizer = FastLanguageModel.from_pretrained(sys.argv[1], load_in_4bit=False)
model.save_pretrained_gguf(sys.argv[2], tokenizer, quantization_method=sys.argv[3].lower())
"""


def main() -> None:
    """Generate, run the sides in turn, print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shape", choices=SHAPES, default="llama-1b")
    parser.add_argument("--type", default="Q4_K_M")
    parser.add_argument("--sides", default="stream,stream-cold,unsloth,long")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="kept, and used again")
    parser.add_argument("--profile", action="store_true", help="seconds by kind of work")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="benchmark-"))
    if arguments.side == "generate":
        generate(arguments.shape, folder)
        return
    if arguments.side:
        side(arguments.side, folder, arguments.type, arguments.profile)
        return
    if not (folder / "ready").exists():  # in a process of its own: a child's peak begins at ours
        job = [sys.executable, __file__, "--folder", str(folder), "--shape", arguments.shape]
        subprocess.run([*job, "--side", "generate"], check=True)
    sides = ["stream"] if arguments.profile else arguments.sides.split(",")
    command = [sys.executable, __file__, "--folder", str(folder), "--type", arguments.type]
    found: dict[str, list[tuple[float, int, int, int]]] = {name: [] for name in sides}
    for _ in range(1 if arguments.profile else arguments.rounds):
        for name in sides:
            more = ["--profile"] if arguments.profile else []
            found[name].append(measured([*command, "--side", name, *more], folder, name))
    print(f"{arguments.shape}, {arguments.type}, {os.cpu_count()} cores, medians")
    first = statistics.median(run[0] for run in found[sides[0]])
    for name, runs in found.items():
        columns = zip(*runs, strict=True)
        seconds, memory, written, size = map(statistics.median, columns)
        print(
            f"{name:<12} {seconds:7.1f} s  {seconds / first:5.1f} x  {memory / 1e9:5.2f} GB  "
            f"written {written / 1e9:5.2f} GB = {written / size:5.2f} x the file"
        )
    if not arguments.folder:
        shutil.rmtree(folder)


def measured(command: list[str], folder: Path, name: str) -> tuple[float, int, int, int]:
    """Seconds, peak memory, bytes written, and size of the file of one process."""
    out = folder / name
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    os.sync()
    with (folder / f"{name}.log").open("w") as log:
        began = time.monotonic()
        profile = "--profile" in command
        process = subprocess.Popen(
            command, stdout=None if profile else log, stderr=log, env=environment()
        )
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
    if status:
        sys.exit(f"{name} failed: {folder / name}.log")
    size = max(file.stat().st_size for file in out.rglob("*.gguf"))
    print(f"  {name}: {seconds:.1f} s", flush=True)
    return seconds, used.ru_maxrss * 1024, used.ru_oublock * 512, size


def environment() -> dict[str, str]:
    """As a stage has it: nothing is fetched or sent."""
    from pipeline.tools.children import QUIET

    return {**os.environ, **QUIET, "PYTHONPATH": str(PROJECT)}


def side(name: str, folder: Path, quantization: str, profile: bool) -> None:
    """One side, in a process of its own."""
    out = folder / name
    if name == "unsloth":
        unsloth(folder, out, quantization)
    elif name == "long":
        from pipeline.stages.packing import long_road
        from pipeline.stages.packing.target import merge_dtype

        kind, merged = merge_dtype(quantization), out / "merged"
        long_road.merge(folder / "base", folder / "adapter", merged, kind)
        threads, final = len(os.sched_getaffinity(0)), out / "model.gguf"
        long_road.quantize(merged, final, quantization, kind, name="x", threads=threads)
    else:
        stream(folder, out, quantization, name == "stream-cold", profile)


def stream(folder: Path, out: Path, quantization: str, cold: bool, profile: bool) -> None:
    """Ours."""
    from pipeline.stages.fetching import outlines
    from pipeline.stages.packing import stream as packing
    from pipeline.stages.packing.target import in_order, target
    from pipeline.stages.packing.weights import opened
    from pipeline.tools import outline

    began = time.monotonic()
    known = folder
    if cold:
        known = out
        outlines.write_outline(folder / "base", out / "vocab.gguf", out / "o.json", name="x")
    outlined = outline.read(known / "o.json")
    chosen = target(outlined, known / "vocab.gguf", quantization, out)
    ready = time.monotonic()
    clock = packing.write(
        opened(sorted((folder / "base").glob("*.safetensors"))),
        folder / "adapter",
        in_order(outlined),
        {out / "model.gguf": chosen},
        threads=len(os.sched_getaffinity(0)),
    )
    if profile:
        print(f"  outline and types {ready - began:6.2f} s")
        print(f"  blocks            {time.monotonic() - ready:6.2f} s, of all threads together:")
        for what, seconds in sorted(clock.seconds.items(), key=lambda item: -item[1]):
            print(f"    {what:<16} {seconds:6.2f} s")


def unsloth(folder: Path, out: Path, quantization: str) -> None:
    """Unsloth's exporter with the llama.cpp that is here: it looks in one folder for all parts."""
    from pipeline.common import places

    tools = folder / "llama.cpp"
    if not tools.exists():
        tools.mkdir()
        sources = ("src", "ggml", "common")  # by these it knows the folder for llama.cpp's
        for part in ("convert_hf_to_gguf.py", "conversion", "gguf-py", *sources):
            (tools / part).symlink_to(places.llama_cpp() / part)
        (tools / "llama-quantize").symlink_to(places.llama_helpers() / "llama-quantize")
    subprocess.run(
        [sys.executable, "-c", UNSLOTH, str(folder / "adapter"), str(out / "gguf"), quantization],
        cwd=out,
        env={**os.environ, "UNSLOTH_LLAMA_CPP_PATH": str(tools)},
        check=True,
    )


def generate(shape: str, folder: Path) -> None:
    """A base in bf16 with a real vocabulary, an adapter, and the base's outline."""
    import numpy as np
    from safetensors.numpy import save_file

    from pipeline.bases.gguf_keys import Keys
    from pipeline.common import places
    from pipeline.stages.fetching import gguf_tokenizer, outlines
    from pipeline.tools.gguf_layout import layout

    width, inner, layers, heads, key_heads, vocabulary = SHAPES[shape]
    base = folder / "base"
    base.mkdir(parents=True, exist_ok=True)
    head = width // heads
    small = vocabulary < 100_000
    source = (
        places.embedded_gguf() if small else places.llama_cpp() / "models/ggml-vocab-llama-bpe.gguf"
    )
    reader = Keys(source, layout(source))
    gguf_tokenizer.write_tokenizer(reader, base)
    shapes = {"model.embed_tokens.weight": (vocabulary, width), "model.norm.weight": (width,)}
    for i in range(layers):
        block = f"model.layers.{i}"
        shapes |= {
            f"{block}.self_attn.q_proj.weight": (width, width),
            f"{block}.self_attn.k_proj.weight": (head * key_heads, width),
            f"{block}.self_attn.v_proj.weight": (head * key_heads, width),
            f"{block}.self_attn.o_proj.weight": (width, width),
            f"{block}.mlp.gate_proj.weight": (inner, width),
            f"{block}.mlp.up_proj.weight": (inner, width),
            f"{block}.mlp.down_proj.weight": (width, inner),
            f"{block}.input_layernorm.weight": (width,),
            f"{block}.post_attention_layernorm.weight": (width,),
        }
    write_weights(shapes, base)
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "head_dim": head,
        "vocab_size": vocabulary,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "bos_token_id": reader.whole("tokenizer.ggml.bos_token_id"),
        "eos_token_id": reader.whole("tokenizer.ggml.eos_token_id"),
        "torch_dtype": "bfloat16",
        **({} if small else {"rope_scaling": ROPE}),
    }
    (base / "config.json").write_text(json.dumps(config))
    random = np.random.default_rng(1)
    factors = {}
    for name, (rows, *columns) in shapes.items():
        if name.endswith("_proj.weight"):
            module = f"base_model.model.{name.removesuffix('.weight')}"
            a, b = random.normal(0, 0.02, (16, *columns)), random.normal(0, 0.02, (rows, 16))
            factors[f"{module}.lora_A.weight"] = a.astype(np.float32)
            factors[f"{module}.lora_B.weight"] = b.astype(np.float32)
    (folder / "adapter").mkdir()
    save_file(factors, folder / "adapter/adapter_model.safetensors")
    lora = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": str(base),
        "r": 16,
        "lora_alpha": 16,
        "bias": "none",
        "target_modules": sorted({n.split(".")[-2] for n in shapes if n.endswith("_proj.weight")}),
    }
    (folder / "adapter/adapter_config.json").write_text(json.dumps(lora))
    outlines.write_outline(base, folder / "vocab.gguf", folder / "o.json", name="x")
    (folder / "ready").touch()


def write_weights(shapes: dict[str, tuple[int, ...]], base: Path) -> None:
    """Normal random numbers in bf16, in shards: one is in memory at a time."""
    import torch
    from safetensors.torch import save_file

    torch.manual_seed(0)
    shards: list[dict[str, tuple[int, ...]]] = [{}]
    size = 0
    for name, shape in shapes.items():
        if size and size + 2 * torch.Size(shape).numel() > SHARD:
            shards.append({})
            size = 0
        shards[-1][name] = shape
        size += 2 * torch.Size(shape).numel()
    where = {}
    for i, shard in enumerate(shards, start=1):
        file = f"model-{i:05}-of-{len(shards):05}.safetensors" if len(shards) > 1 else MODEL
        weights = {
            name: torch.ones(shape, dtype=torch.bfloat16)
            if len(shape) == 1
            else torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)
            for name, shape in shard.items()
        }
        save_file(weights, base / file, metadata={"format": "pt"})
        where |= dict.fromkeys(weights, file)
    if len(shards) > 1:
        index = {"metadata": {}, "weight_map": where}
        (base / "model.safetensors.index.json").write_text(json.dumps(index))


MODEL = "model.safetensors"


if __name__ == "__main__":
    main()

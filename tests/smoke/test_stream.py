"""The stream writes the bytes of llama.cpp's converter and quantizer, for every family and type.

Converted once for all tests, in one child process: each family as a base (its outline) and with our
merged weights (the reference).
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import convert_many
import pytest
from families import FAMILIES, family_directory, write_adapter

from pipeline.bases.reference import Original
from pipeline.common import places
from pipeline.common.values import digest_of_file
from pipeline.made.artifacts import Adapter, Base, Dataset, Packed
from pipeline.made.stage import Where
from pipeline.release import promise
from pipeline.stages import pack
from pipeline.stages.packing import long_road, stream, tree
from pipeline.stages.packing.adapter import opened_adapter
from pipeline.stages.packing.merged import Merged
from pipeline.stages.packing.target import in_order, merge_dtype, target
from pipeline.stages.packing.weights import opened
from pipeline.stages.settings import Pack
from pipeline.tools import llamacpp, outline
from pipeline.tools.outline import Outline

pytestmark = [pytest.mark.smoke, pytest.mark.filterwarnings("default")]

TYPES = ("Q4_K_M", "Q8_0", "Q6_K", "Q5_K_M", "Q4_0", "F16", "BF16", "F32")


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder for each family: base, adapter, outline, and plain-TYPE.gguf of the converter."""
    folders = {}
    jobs = []
    for number, family in enumerate(FAMILIES):
        folder = tmp_path_factory.mktemp(f"family-{number}")
        base = family_directory(family, folder / "base")
        write_adapter(folder / "adapter", base)
        same = folder / "same" / "model"  # the converter writes words of the folder's name
        same.parent.mkdir()
        same.symlink_to(base)
        vocab, known = folder / "vocab.gguf", folder / "outline.json"
        jobs.append(
            ["pipeline.stages.fetching.outlining", str(same), family, str(vocab), str(known), "all"]
        )
        for kind in ("F16", "BF16", "F32"):
            merged = folder / kind / "model"
            long_road.write(base, merged_weights(base, folder / "adapter", kind), merged)
            options = ["--outfile", f"{folder}/plain-{kind}.gguf", "--outtype", kind.lower()]
            jobs.append([script(), str(merged), *options, "--model-name", family])
        folders[family] = folder
    convert_many.run(jobs)
    return folders


def script() -> str:
    return str(places.llama_cpp() / "convert_hf_to_gguf.py")


def shards(base: Path) -> list[Path]:
    return sorted(base.glob("*.safetensors"))


def merged_weights(base: Path, adapter: Path, merge_dtype: str) -> dict[str, object]:
    """All weights of the base, our merge in those that the adapter changes."""
    import torch

    dtype = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}[merge_dtype]
    weights = stored(base)
    with opened(shards(base)) as found, opened_adapter(adapter, found) as loras:
        merged = Merged(found, loras)
        for name in loras:
            weights[name] = torch.from_numpy(merged.whole(name, kind=merge_dtype)).to(dtype)
    return dict(weights)


def streamed(folder: Path, types: tuple[str, ...], out: Path) -> dict[str, Path]:
    known = outline.read(folder / "outline.json")
    assert known.unknown == ""
    files = {name: out / f"{name}.gguf" for name in types}
    targets = {files[name]: target(known, folder / "vocab.gguf", name, out) for name in types}
    weights = opened(shards(folder / "base"))
    stream.write(weights, folder / "adapter", in_order(known), targets, threads=2)
    return files


@pytest.mark.parametrize("family", FAMILIES)
def test_every_type_has_the_bytes_of_the_long_road(
    family: str, worlds: dict[str, Path], tmp_path: Path
) -> None:
    folder = worlds[family]
    files = streamed(folder, TYPES, tmp_path)
    differ = []
    for name, file in files.items():
        expected = tmp_path / f"reference-{name}.gguf"
        llamacpp.quantize(folder / f"plain-{merge_dtype(name)}.gguf", expected, name, 2)
        if digest_of_file(file) != digest_of_file(expected):
            differ.append(name)
    assert differ == []


def test_nothing_is_left_to_the_long_road(worlds: dict[str, Path]) -> None:
    for folder in worlds.values():
        assert outline.read(folder / "outline.json").unknown == ""


# against PEFT


def of_peft(base: Path, adapter: Path, dtype: str) -> dict[str, object]:
    """PEFT's merge of a base that is loaded in a type."""
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(base), dtype=getattr(torch, dtype))
    merged = PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
    return dict(merged.state_dict())


def apart(ours: object, theirs: object, base: object) -> tuple[float, float]:
    """How many steps of their 16-bit type they are apart at most, and the share that is apart.

    A step is that of the larger of the weight before and after: where base and update nearly cancel
    out, what is left is the rounding of float32, in any order of sums.
    """
    import torch

    digits = 7 if ours.dtype == torch.bfloat16 else 10  # type: ignore[attr-defined]
    one, other, before = (w.double() for w in (ours, theirs, base))  # type: ignore[attr-defined]
    size = torch.maximum(other.abs(), before.abs()).clamp_min(2.0**-14)
    steps = (one - other).abs() / torch.exp2(torch.log2(size).floor() - digits)
    return float(steps.max()), float((steps > 0).float().mean())


def stored(base: Path) -> dict[str, object]:
    from safetensors.torch import load_file

    return {name: w for file in shards(base) for name, w in load_file(file).items()}


@pytest.mark.parametrize("rank", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("merge_dtype", ["BF16", "F16"])
def test_our_merge_is_pefts_but_for_one_step_in_isolated_weights(
    rank: int, merge_dtype: str, worlds: dict[str, Path], tmp_path: Path
) -> None:
    import torch

    base = worlds["llama tied"] / "base"
    adapter = write_adapter(tmp_path / "lora", base, rank=rank, seed=rank)
    ours = merged_weights(base, adapter, merge_dtype)
    # in bfloat16 PEFT rounds the sum once, as we do; float16 it has to be given in float32
    theirs = of_peft(base, adapter, "bfloat16" if merge_dtype == "BF16" else "float32")
    dtype = torch.bfloat16 if merge_dtype == "BF16" else torch.float16
    changed, before = long_road.changed_by(adapter), stored(base)
    assert len(changed) == 70
    for name in changed:
        most, share = apart(ours[name], theirs[name].to(dtype), before[name])  # type: ignore[attr-defined]
        assert most <= 1, name
        assert share < 0.002, name


@pytest.mark.parametrize(
    "config",
    [
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 3, "layers.1.mlp.down_proj": 64}},
        {"alpha_pattern": {"self_attn.*": 5}, "use_rslora": True},
    ],
)
def test_variants_of_lora_are_merged_as_peft_does(
    config: dict[str, object], worlds: dict[str, Path], tmp_path: Path
) -> None:
    import torch

    base = worlds["llama tied"] / "base"
    adapter = write_adapter(tmp_path / "lora", base, **config)
    ours = merged_weights(base, adapter, "F16")
    theirs, before = of_peft(base, adapter, "float32"), stored(base)
    for name in long_road.changed_by(adapter):
        theirs_16 = theirs[name].to(torch.float16)  # type: ignore[attr-defined]
        assert apart(ours[name], theirs_16, before[name])[0] <= 1, name


def test_a_rank_of_its_own_in_some_modules_is_merged_as_peft_does(
    worlds: dict[str, Path], tmp_path: Path
) -> None:
    import torch
    from safetensors.numpy import load_file, save_file

    base = worlds["llama tied"] / "base"
    adapter = write_adapter(tmp_path / "lora", base, rank_pattern={"up_proj": 4, "k_proj": 8})
    file = adapter / "adapter_model.safetensors"
    factors = load_file(file)
    for name, factor in factors.items():
        rank = 4 if "up_proj" in name else 8 if "k_proj" in name else 16
        factors[name] = (factor[:rank] if "lora_A" in name else factor[:, :rank]).copy()
    save_file(factors, file)
    ours = merged_weights(base, adapter, "F16")
    theirs, before = of_peft(base, adapter, "float32"), stored(base)
    for name in long_road.changed_by(adapter):
        theirs_16 = theirs[name].to(torch.float16)  # type: ignore[attr-defined]
        assert apart(ours[name], theirs_16, before[name])[0] <= 1, name


def test_pefts_merge_in_the_stream_s_place_gives_the_same_file_but_for_those_weights(
    worlds: dict[str, Path], tmp_path: Path
) -> None:
    """The long road as the stage takes it, whole: PEFT, converter, quantizer."""
    folder = worlds["llama tied"]
    long_road.merge(folder / "base", folder / "adapter", tmp_path / "merged", "F16")
    long = tmp_path / "long.gguf"
    long_road.quantize(tmp_path / "merged", long, "Q8_0", "F16", name="llama tied", threads=2)
    ours = streamed(folder, ("Q8_0",), tmp_path)["Q8_0"]
    one, other = long.read_bytes(), ours.read_bytes()
    assert len(one) == len(other)
    assert sum(a != b for a, b in zip(one, other, strict=True)) < len(one) / 1000


def test_a_family_that_the_stream_does_not_know_takes_the_long_road_and_it_is_said(
    tiny_base: Base, tmp_path: Path
) -> None:
    """The stage itself, on the same base with and without an outline that explains it."""
    adapter_folder = write_adapter(tmp_path / "lora", tiny_base.path, rank=4)
    adapter = Adapter.at(
        adapter_folder, loss=None, epochs=1.0, steps=1, seconds=1.0, tokens_per_second=1.0
    )
    ids = list(range(10, 90))
    labels = [-100] * 40 + ids[40:]
    rows = [{"messages": [], "sequences": [{"ids": ids, "labels": labels}]}] * 4
    (tmp_path / "data").mkdir()
    for part in ("train", "validation", "test"):
        (tmp_path / f"data/{part}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    counts = {"rows": 12, "train": 4, "validation": 4, "test": 4, "tokens": 320, "longest": 80}
    data = Dataset.at(tmp_path / "data", longest_answer=9, uses_system=False, **counts)
    strange = Path(shutil.copytree(tiny_base.path, tmp_path / "strange"))
    (strange / "outline.json").write_text(
        Outline(tensors=(), unknown="blk.0.attn_q.weight").model_dump_json()
    )
    said: dict[str, list[str]] = {"stream": [], "long": []}
    made = {}
    for road, base in (
        ("stream", tiny_base),
        ("long", tiny_base.model_copy(update={"path": strange})),
    ):
        (tmp_path / road).mkdir()
        where = Where(threads=2, say=said[road].append)
        settings = Pack(quantization="Q8_0,F32")
        made[road] = pack.run(
            tmp_path / road, settings, base, adapter, data, Original(), where=where
        )
    assert said["long"][0] == ("LlamaForCausalLM is packed the long way: blk.0.attn_q.weight")
    for road in made:
        agreed = [line for line in said[road] if line.startswith("merged and unmerged agree")]
        assert len(agreed) == 2  # what is rounded to 16 bit, and what is not
    assert made["stream"].loss == pytest.approx(made["long"].loss)
    assert made["stream"].loss == pytest.approx(_loss_in_llama_cpp(made["stream"], data), abs=0.02)
    assert {f.name for f in made["long"].path.iterdir()} == {"model.gguf", "model-F32.gguf"}
    one, other = (made[road].served.path.read_bytes() for road in ("stream", "long"))
    assert len(one) == len(other)
    assert sum(a != b for a, b in zip(one, other, strict=True)) < len(one) / 1000


def _loss_in_llama_cpp(gguf: Packed, data: Dataset) -> float:
    """What the proof finds in the file (a random model loses nothing in eight bits)."""
    losses = []
    with llamacpp.Model(gguf.served.path, weights=True) as model:
        for ids, labels in tree.probes(data).held:
            for at, row in enumerate(model.each_logits(ids, 1, 2), 1):
                if labels[at] != tree.UNTRAINED:
                    losses.append(promise.surprisal(row, ids[at]))
    return sum(losses) / len(losses)

"""Some thousand mutated headers, the same ones in every run.

What comes back is consistent with the file, or it is our error, and neither takes long.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hostile import safetensors, text, two_lines, u32, u64
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from pipeline.bases import checkpoint, known_keys
from pipeline.common.errors import BadInput, ToolFailed
from pipeline.common.foreign import read_object
from pipeline.made.stage import Where
from pipeline.stages.fetching import from_huggingface
from pipeline.tools.gguf_header import Entry, header
from pipeline.tools.gguf_layout import layout
from pipeline.tools.gguf_values import uint32

NASTY = [
    0, 1, -1, 2, 3, 31, 33, 1 << 16, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, 1 << 62,
    (1 << 63) - 1, 1 << 63, (1 << 64) - 1, 10**18, 10**40,
]  # fmt: skip
numbers = some.sampled_from(NASTY) | some.integers(0, 64)
values: Any = some.recursive(
    some.none() | some.booleans() | numbers | some.floats(width=32) | some.text(max_size=8),
    lambda inner: (
        some.lists(inner, max_size=4) | some.dictionaries(some.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)
many = settings(
    max_examples=700,
    database=None,  # nothing is written beside the code
    derandomize=True,  # the same cases in every run
    deadline=timedelta(seconds=5),  # a busy machine; each takes a millisecond
    suppress_health_check=list(HealthCheck),
)
tensors = some.fixed_dictionaries(
    {
        "dtype": some.sampled_from(["F32", "F16", "BF16", "F8", "I64"]) | values,
        "shape": some.lists(numbers, max_size=3) | values,
        "data_offsets": some.lists(numbers | some.integers(0, 40), min_size=2, max_size=2) | values,
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def consistent(path: Path, found: dict[str, dict[str, Any]]) -> bool:
    """All bytes behind the header belong to one tensor each."""
    size = {"F32": 4, "F16": 2, "BF16": 2}
    places = sorted(tensor["data_offsets"] for tensor in found.values())
    starts, stops = [start for start, _ in places], [stop for _, stop in places]
    (length,) = struct.unpack("<Q", path.read_bytes()[:8])
    return (
        starts == [0, *stops[:-1]]
        and stops[-1] == path.stat().st_size - 8 - length
        and all(
            size[t["dtype"]] * math.prod(t["shape"]) == t["data_offsets"][1] - t["data_offsets"][0]
            for t in found.values()
        )
    )


@many
@given(
    head=some.dictionaries(some.text(max_size=6), tensors | values, max_size=3) | values,
    data=some.integers(0, 40),
    cut=some.integers(0, 30) | some.none(),
    edit=some.none() | some.tuples(some.integers(0, 80), some.binary(max_size=3)),
)
def test_any_safetensors_header_is_consistent_or_refused(folder, head, data, cut, edit):
    path = folder / "x.safetensors"
    safetensors(path, json.dumps(head).encode("utf-8", "replace"), bytes(data))
    raw = bytearray(path.read_bytes())
    if edit:
        raw[edit[0] : edit[0] + len(edit[1])] = edit[1]
    path.write_bytes(raw[: len(raw) - cut] if cut else raw)
    try:
        found = checkpoint.header(path)
    except BadInput as error:
        assert two_lines(error)
    else:
        assert consistent(path, found)


GOOD = [Entry("blk.0.a", "Q8_0", (3, 64)), Entry("b", "F32", (5,)), Entry("c", "F16", (2, 2))]
FRONT = header(
    {
        "general.alignment": uint32(32),
        "words": u32(9) + u32(8) + u64(3) + text("a") + text("bc") + text(""),
        "numbers": u32(9) + u32(6) + u64(2) + bytes(8),
        "name": u32(8) + text("a model"),
    },
    GOOD,
)


@many
@given(
    edits=some.lists(
        some.tuples(
            some.integers(0, len(FRONT) - 1),
            some.builds(u64, some.sampled_from([n % (1 << 64) for n in NASTY]))
            | some.builds(u32, some.sampled_from([n % (1 << 32) for n in NASTY]))
            | some.binary(min_size=1, max_size=2),
        ),
        max_size=3,
    ),
    twist=some.tuples(some.integers(0, len(FRONT)), some.integers(0, 40), some.binary(max_size=12)),
)
def test_any_gguf_front_is_consistent_or_refused(folder, edits, twist):
    raw = bytearray(FRONT + bytes(224 + 32 + 32))
    for at, new in edits:
        raw[at : at + len(new)] = new
    at, gone, new = twist
    raw[at : at + gone] = new
    path = folder / "x.gguf"
    path.write_bytes(raw)
    try:
        found = layout(path)
    except ToolFailed as error:
        assert two_lines(error)
    else:
        places = sorted((p.start, p.start + p.size) for p in found.tensors.values())
        assert all(a <= b <= len(raw) for a, b in places)
        assert all(end <= start for (_, end), (start, _) in pairwise(places))
        assert sum(map(len, found.keys.values())) < len(raw)


CONFIG_KEYS = [*known_keys.CONFIG, "attn_implementation", "auto_map", "quantization_config"]


@many
@given(
    changes=some.dictionaries(
        some.sampled_from(CONFIG_KEYS) | some.text(max_size=8),
        values | some.dictionaries(some.sampled_from([*known_keys.ROPE]), values, max_size=3),
        max_size=3,
    ),
    tokens=some.dictionaries(
        some.sampled_from([*known_keys.TOKENIZER]) | some.text(max_size=8), values, max_size=2
    ),
)
def test_any_config_is_known_or_refused(folder, tiny_directory, changes, tokens):
    base = folder / "base"
    if not base.exists():
        shutil.copytree(tiny_directory, base)
    config = json.loads((tiny_directory / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | changes))
    (base / "tokenizer_config.json").write_text(json.dumps(tokens))
    try:
        found = checkpoint.check(base)
        assert checkpoint.parameters(base, found) == 1_286_656
        from_huggingface._write_config(base, folder, found, Where())
    except BadInput as error:
        assert two_lines(error)
    else:
        kept = read_object((folder / "config.json").read_bytes())
        assert kept.keys() <= known_keys.CONFIG.keys()
        assert kept["num_hidden_layers"] == 2

"""The compiled kernels make llama.cpp's bytes and numpy's numbers, to the bit."""

import json
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from pipeline.common import places
from pipeline.common.errors import Missing
from pipeline.stages.packing import compiling, kernels
from pipeline.tools import ggml

K_QUANTS = ["Q4_K", "Q5_K", "Q6_K"]
EXPONENTS = [-45, -42, -38, -36, -30, -20, -15, -12, -8, 8, 12, 15, 18, 20, 25, 30, 36, 37, 38]


def bf16(x: np.ndarray) -> np.ndarray:
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def data_sets(width: int, rows: int = 7) -> dict[str, np.ndarray]:
    """Rows as trained weights are, and as they never should be; sub-blocks are 16 or 32 long."""
    random = np.random.default_rng(7)

    def normal() -> np.ndarray:
        return random.standard_normal((rows, width))

    def some(chance: float, size: int = 1) -> np.ndarray:
        return (random.random((rows, width // size)) < chance).repeat(size, axis=1)

    def power(least: float, most: float, size: int = 1) -> np.ndarray:
        return 10 ** random.uniform(least, most, (rows, width // size)).repeat(size, axis=1)

    outlier_columns = np.where(random.random(width) < 0.006, 60, 1)
    sets = {
        "normal": 0.02 * normal(),
        "rounded to bf16": bf16(0.02 * normal()),
        "heavy tails": bf16(0.01 * random.standard_t(2, (rows, width))),
        "Cauchy": 0.01 * random.standard_cauchy((rows, width)),
        "outlier columns": bf16(0.02 * normal() * outlier_columns),
        "zero sub-blocks": normal() * ~some(0.4, 32),
        "zero sub-blocks of 16": normal() * ~some(0.4, 16),
        "zero super-blocks": normal() * ~some(0.4, width // 2),
        "zero": np.zeros((rows, width)),
        "minus zero": np.full((rows, width), -0.0),
        "constant sub-blocks": normal()[:, ::32].repeat(32, axis=1),
        "constant rows": normal()[:, :1].repeat(width, axis=1),
        "positive": abs(normal()),
        "negative": -abs(normal()),
        "far above zero": normal() + 1000,
        "far below zero": normal() - 1000,
        "sparse": normal() * some(0.05),
        "two values": np.where(some(0.5), 0.5, -0.25),
        "two values of a size": np.where(some(0.5), 0.5, -0.5),
        "integers": random.integers(-8, 8, (rows, width)),
        "sub-blocks of many sizes": normal() * power(-12, 4, 32),
        "sub-blocks of some sizes": normal() * power(-3, 1, 16),
        "numbers of many sizes": normal() * power(-44, 38),
        "some infinite": np.where(some(0.003), np.inf, normal()),
        "some minus infinite": np.where(some(0.003), -np.inf, normal()),
        "some NaN": np.where(some(0.003), np.nan, normal()),
        "some minus NaN": np.where(some(0.003), -np.nan, normal()),
        "all NaN": np.full((rows, width), np.nan),
        "all infinite": np.full((rows, width), np.inf),
    }
    sets |= {f"about 1e{e}": normal() * 10.0**e for e in EXPONENTS}
    with np.errstate(over="ignore"):
        return {name: np.ascontiguousarray(x, np.float32) for name, x in sets.items()}


def differing(type_name: str, rows: np.ndarray) -> int:
    theirs = ggml.quantize(type_name, rows)
    ours = np.full_like(theirs, 0xAA)
    quantize = kernels.quantizer(type_name)
    assert quantize is not None
    quantize(rows, ours)
    return int((ours != theirs).sum())


WIDTHS = [(t, w) for t in kernels.TYPES for w in (256, 576, 2048) if w % kernels.TYPES[t][0] == 0]


@pytest.mark.parametrize(("type_name", "width"), WIDTHS)
def test_every_byte_is_the_librarys(type_name: str, width: int) -> None:
    wrong = {name: differing(type_name, rows) for name, rows in data_sets(width).items()}
    assert not {name: count for name, count in wrong.items() if count}


@pytest.mark.parametrize("type_name", kernels.TYPES)
def test_one_row_fills_no_more_than_its_lanes(type_name: str) -> None:
    for rows in data_sets(256, rows=1).values():
        assert differing(type_name, rows) == 0


@pytest.mark.parametrize("type_name", kernels.TYPES)
def test_random_bits_are_quantized_as_the_library_does(type_name: str) -> None:
    """Finite ones: of two NaNs the first is kept, and which that is the compiler chooses."""
    bits = np.random.default_rng(3).integers(0, 1 << 32, (256, 256), np.uint32)
    rows = bits.view(np.float32)
    assert differing(type_name, np.where(np.isfinite(rows), rows, np.float32(0))) == 0


@pytest.mark.parametrize("type_name", K_QUANTS)
def test_lanes_that_leave_the_range_of_the_rounding_are_done_again(type_name: str) -> None:
    """One sub-block in a group is such; its neighbours must not notice."""
    rows = 0.02 * np.random.default_rng(1).standard_normal((16, 2048)).astype(np.float32)
    for row, value in enumerate([np.inf, -np.inf, np.nan, 3e38, -3e38, 1e-45, 0.0]):
        rows[row, 96 * row + 5] = value
        rows[row + 8, 96 * row : 96 * row + 32] = value
    assert differing(type_name, rows) == 0


@pytest.mark.parametrize("type_name", kernels.TYPES)
def test_threads_on_parts_make_the_bytes_of_the_whole(type_name: str) -> None:
    rows = 0.02 * np.random.default_rng(2).standard_normal((32, 512)).astype(np.float32)
    theirs = ggml.quantize(type_name, rows)
    ours = np.zeros_like(theirs)
    quantize = kernels.quantizer(type_name)
    assert quantize is not None
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda i: quantize(rows[i : i + 4], ours[i : i + 4]), range(0, 32, 4)))
    assert np.array_equal(ours, theirs)


def test_a_kernel_refuses_arrays_that_do_not_fit_each_other() -> None:
    quantize = kernels.quantizer("Q4_K")
    assert quantize is not None
    rows = np.zeros((2, 256), np.float32)
    with pytest.raises(ValueError, match="287 bytes"):
        quantize(rows, np.zeros(287, np.uint8))
    with pytest.raises(ValueError, match="shape"):
        quantize(rows.reshape(16, 32), np.zeros(288, np.uint8))
    with pytest.raises(ValueError, match="contiguous"):
        quantize(rows, np.zeros((2, 288), np.uint8)[:, ::2])
    with pytest.raises(TypeError):
        quantize(rows.astype(np.float64), np.zeros(288, np.uint8))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="4 and 3"):
        kernels.widen_bf16(np.zeros(4, np.uint16), np.zeros(3, np.float32))


@pytest.mark.parametrize("type_name", kernels.TYPES)
def test_our_kernels_are_trusted(type_name: str) -> None:
    assert kernels.trusted(type_name)


def test_a_kernel_that_makes_one_other_byte_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    real = kernels.quantizer("Q4_K")
    assert real is not None

    def mangled(rows: np.ndarray, out: np.ndarray) -> None:
        real(rows, out)
        out[-1, -1] ^= 1

    monkeypatch.setattr(kernels, "quantizer", lambda type_name: mangled)
    assert not kernels.trusted.__wrapped__("Q4_K")
    monkeypatch.setattr(kernels, "quantizer", lambda type_name: real)
    assert kernels.trusted.__wrapped__("Q4_K")


def test_a_type_without_a_kernel_has_none_and_is_not_trusted() -> None:
    assert kernels.quantizer("Q3_K") is None
    assert not kernels.trusted("Q3_K")


def test_without_numba_there_are_no_kernels(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    def none(name: str) -> None:
        raise ImportError("No module named 'numba'")

    monkeypatch.setattr(kernels, "_module", none)
    kernels.missing.cache_clear()
    request.addfinalizer(kernels.missing.cache_clear)
    assert not kernels.available()
    assert "numba" in kernels.missing()
    assert kernels.quantizer("Q8_0") is None
    assert not kernels.trusted.__wrapped__("Q8_0")


def test_a_simple_type_does_not_load_the_k_quants() -> None:
    job = (
        "import sys; from pipeline.stages.packing import kernels\n"
        "assert 'numpy' not in sys.modules and 'numba' not in sys.modules\n"
        "kernels.quantizer('Q8_0')\n"
        "print([name for name in sys.modules if 'packing.kernels_' in name])"
    )
    root = Path(__file__).parent.parent
    command = [sys.executable, "-c", job]
    run = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    loaded = {name.rpartition("_")[2] for name in json.loads(run.stdout.replace("'", '"'))}
    assert loaded == {"flat", "merge", "32"}


def test_a_cache_folder_that_is_set_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert compiling.use_cache() == tmp_path
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    folder = compiling.use_cache()
    assert folder.parent == places.cache_home()
    assert folder.name.endswith(places.cpu_key())
    assert folder == compiling.use_cache()


@cache
def machine_code(module: str, name: str) -> str:
    """Assembler text of a part of a kernel, compiled here: code from the cache has no text."""
    import numba
    from numba import float32, int32, int64

    f, i, x, levels = float32, int64, float32[::1], int32[::1]
    arguments = {
        ("kernels_k45", "_load"): (x, i, i, x),
        ("kernels_k45", "_try"): (f, f, x),
        ("kernels_k45", "_exact"): (x, int32, x, levels),
        ("kernels_k6", "_load"): (x, i, i, x),
        ("kernels_k6", "_try"): (f, numba.boolean, x),
        ("kernels_k6", "_exact"): (x, levels),
    }[module, name]
    function = getattr(kernels._module(module), name).py_func
    compiled = numba.njit(arguments, **compiling._EXACT)(function)
    return str(compiled.inspect_asm(compiled.signatures[0]))


@pytest.mark.parametrize("module", ["kernels_k45", "kernels_k6"])
@pytest.mark.parametrize("part", ["_load", "_try", "_exact"])
def test_no_product_and_sum_became_one_fma(module: str, part: str) -> None:
    code = machine_code(module, part)
    assert "vmul" in code or "mulss" in code  # it is the code that is meant
    assert not re.findall(r"\bvfn?m(?:add|sub)\w*", code)


@pytest.mark.parametrize("module", ["kernels_k45", "kernels_k6"])
def test_the_search_is_vectorised(module: str) -> None:
    """An innocent change to it can make it ten times slower."""
    if "avx2" not in Path("/proc/cpuinfo").read_text():
        pytest.skip("no wide registers")
    code = machine_code(module, "_try")
    packed = len(re.findall(r"\bvmulps\s.*%[yz]mm", code))
    single = len(re.findall(r"\bvmulss\s", code))
    assert packed > 50
    assert single == 0


@pytest.fixture(scope="module")
def numbers() -> np.ndarray:
    """Every half, what lies between two, and bits of every kind: 300,000 float32."""
    halves = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    with np.errstate(all="ignore"):
        exact = halves.astype(np.float32)
        between = exact + (halves.view(np.uint16) + np.uint16(1)).view(np.float16).astype(
            np.float32
        )
        between = (between / 2).astype(np.float32)
    random = np.random.default_rng(0).integers(0, 1 << 32, 100_000, np.uint32).view(np.float32)
    edges = np.array([65504, 65519.996, 65520, 65536, 1e38, 6e-8, 2.98e-8, 2.99e-8, 1e-45, 0.0])
    tiny = random[:60_000].view(np.uint32) & np.uint32(0x807FFFFF)  # denormal
    found = [exact, between, random, edges.astype(np.float32), tiny.view(np.float32)]
    return np.concatenate([*found, -edges.astype(np.float32)])


def same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    """Bits are equal, whatever the bits of a NaN."""
    nan = np.isnan(theirs)
    bits = ours.view(np.uint32) == theirs.view(np.uint32)
    return bool((np.isnan(ours) == nan).all() and bits[~nan].all())


def test_rounding_to_halves_is_numpys(numbers: np.ndarray) -> None:
    ours = numbers.copy()
    kernels.round_f16(ours)
    with np.errstate(all="ignore"):
        assert same(ours, numbers.astype(np.float16).astype(np.float32))


def test_rounding_to_bfloat16_takes_the_nearer_and_of_two_the_even(numbers: np.ndarray) -> None:
    ours = numbers.copy()
    kernels.round_bf16(ours)
    finite = np.isfinite(numbers)
    x = numbers[finite].astype(np.float64)
    below = numbers[finite].view(np.uint32) & np.uint32(0xFFFF0000)
    above = below + np.uint32(0x10000)
    at_most = np.where(above & 0x7FFFFFFF == 0x7F800000, below, above)  # infinity is 2^128 here
    step = np.abs(at_most.view(np.float32).astype(np.float64) - below.view(np.float32))
    step = np.where(at_most == below, 2.0**120, step)
    away = np.abs(x - below.view(np.float32))
    up = (away > step / 2) | ((away == step / 2) & (below & 0x10000 != 0))
    assert same(ours[finite], np.where(up, above, below).astype(np.uint32).view(np.float32))
    assert same(ours[~finite], numbers[~finite])


def test_bfloat16_bits_widen_to_the_numbers_they_are(numbers: np.ndarray) -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    out = np.empty(bits.size, np.float32)
    bits.flags.writeable = False  # as bytes of a file are
    kernels.widen_bf16(bits, out)
    assert np.array_equal(out.view(np.uint32), bits.astype(np.uint32) << 16)


def test_an_update_is_summed_over_the_rank_in_order() -> None:
    random = np.random.default_rng(6)
    for rank, columns in ((1, 3), (6, 1500), (16, 64)):
        weights = random.standard_normal((5, columns)).astype(np.float32)
        b = random.standard_normal((5, rank)).astype(np.float32)
        a = random.standard_normal((rank, columns)).astype(np.float32)
        total = np.zeros_like(weights)
        for r in range(rank):
            total += b[:, r, None] * a[r]
        expected = weights + np.float32(0.7) * total
        kernels.add_update(weights, b, a, np.float32(0.7))
        assert np.array_equal(weights, expected)
    with pytest.raises(ValueError, match="shapes"):
        kernels.add_update(weights, b, a[:, 1:], np.float32(1))


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 10_000])
def test_the_first_number_that_is_not_finite_is_found(size: int) -> None:
    largest = np.finfo(np.float32).max
    weights = np.resize(np.array([1.0, -largest, largest, 0.0, 1e-45], np.float32), size)
    assert kernels.first_not_finite(weights) == -1
    for place in {0, size // 3, 4095, 4096, size - 1} & set(range(size)):
        for value in (np.nan, np.inf, -np.inf):
            bad = weights.copy()
            bad[place:] = value
            bad[place + 1 :: 2] = 1
            assert kernels.first_not_finite(bad) == place


def test_the_library_refuses_what_would_end_the_process() -> None:
    rows = np.zeros((2, 256), np.float32)
    for name in ("IQ2_XXS", "Q8_K", "I8"):
        with pytest.raises(ValueError, match=name):
            ggml.quantize(name, rows)
    with pytest.raises(ValueError, match="rows of 64"):
        ggml.quantize("Q4_K", rows.reshape(8, 64))
    with pytest.raises(ValueError, match="float64"):
        ggml.quantize("Q4_K", rows.astype(np.float64))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="contiguous"):
        ggml.quantize("Q4_0", rows[:, ::2])
    with pytest.raises(KeyError):
        ggml.quantize("Q9_9", rows)


def test_without_the_library_the_set_up_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "llama_bin", lambda: tmp_path)
    with pytest.raises(Missing) as caught:
        ggml._library.__wrapped__()
    assert caught.value.next_step == "Run: make setup"


def test_every_type_that_weights_are_stored_in_can_be_read_back() -> None:
    from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import dequantize

    rows = np.random.default_rng(4).standard_normal((3, 512)).astype(np.float32)
    for name in ("F32", "F16", "BF16", "Q8_0", "Q4_1", "Q3_K", "Q4_K", "IQ4_XS"):
        kind = GGMLQuantizationType[name]
        made = ggml.quantize(name, rows)
        block, size = GGML_QUANT_SIZES[kind]
        assert made.shape == (3, 512 // block * size) == (3, ggml.row_bytes(name, 512))
        assert np.abs(dequantize(made, kind) - rows).max() < 0.5
    assert np.array_equal(ggml.quantize("F32", rows).view(np.float32), rows)

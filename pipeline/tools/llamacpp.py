"""The door to llama.cpp's library: quantizer, tokenizer, logits.

The library is the one that the set-up built (places.llama_bin), loaded through llama-cpp-python's
bindings. Its converter, a script in the same source package, has a door of its own (converter.py).
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from pipeline.common import places
from pipeline.common.errors import Missing, ToolFailed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

WARNING = 3  # ggml.h: GGML_LOG_LEVEL_WARN
UNMADE = {  # refuse a model without an importance matrix, or cannot be made from 16 bit
    *("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ2_M", "IQ3_XXS", "IQ3_XS"),
    *("Q2_K_S", "NVFP4", "Q2_0"),
}
REVISION = places.LLAMA_CPP_PYTHON


@cache
def library() -> Any:
    """The bindings module; warnings of llama.cpp go to a stage's log, and nowhere else.

    Raises:
        Missing: the library was not built.
    """
    folder = places.llama_bin()
    if not (folder / "libllama.so").exists():
        raise Missing("llama.cpp is not built on this machine", "Run: make setup")
    os.environ["LLAMA_CPP_LIB_PATH"] = str(folder)
    import llama_cpp.llama_cpp as llama

    llama.llama_log_set(_log, ctypes.c_void_p(0))
    llama.llama_backend_init()
    return llama


def _keep(level: int, text: bytes, data: object) -> None:
    if _heard is not None:
        _heard.append(text.decode(errors="replace"))
    if level >= WARNING and "SPECIALIST_STAGE" in os.environ:  # the store sets it for a stage
        sys.stderr.write(text.decode(errors="replace"))


_heard: list[str] | None = None  # what llama.cpp says, while somebody listens
_log = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(_keep)


class Model:
    """A GGUF opened by llama.cpp, with or without its weights. Use as a context manager."""

    def __init__(
        self, path: Path, *, weights: bool = False, changed: Mapping[str, int] | None = None
    ) -> None:
        """Open it.

        Args:
            weights: to compute with; else the vocabulary alone.
            changed: whole numbers that stand for those of the file's keys.

        Raises:
            ToolFailed: llama.cpp cannot.
        """
        llama = library()
        params = llama.llama_model_default_params()
        if changed:
            params.kv_overrides = _overrides(changed)
        params.vocab_only = not weights
        params.n_gpu_layers = 0
        params.use_extra_bufts = False  # no second copy of the weights, repacked for speed
        self._model = llama.llama_model_load_from_file(os.fsencode(path), params)
        if not self._model:
            raise ToolFailed(
                f"llama.cpp cannot open {path}", "The file may be damaged: remove it and run again."
            )
        self._vocab = llama.llama_model_get_vocab(self._model)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        library().llama_model_free(self._model)

    def tokenize(self, text: str, *, special: bool, bos: bool = False) -> list[int]:
        """Token ids of a text.

        Args:
            special: read spelled control tokens as such (prompts: yes, answers: no).
            bos: let the vocabulary add its BOS if it adds one.
        """
        raw = text.encode()
        room = len(raw) + 8
        for _ in range(2):
            ids = (ctypes.c_int32 * room)()
            count = library().llama_tokenize(self._vocab, raw, len(raw), ids, room, bos, special)
            if count >= 0:
                return list(ids[:count])
            room = -count  # a blank may become three bytes (SentencePiece without such a piece)
        raise ToolFailed(f"llama.cpp cannot tokenize {text[:60]!r}")

    def is_end(self, token: int) -> bool:
        """True if generation ends at this token."""
        return bool(library().llama_vocab_is_eog(self._vocab, token))

    def is_control(self, token: int) -> bool:
        """True if the token is a CONTROL token: never shown, spelled only by the template."""
        return bool(library().llama_vocab_is_control(self._vocab, token))

    @property
    def split_by(self) -> str:
        """By which expressions texts are split before bytes are merged; '' where they are not.

        That is `tokenizer.ggml.pre` of a vocabulary of LLAMA_VOCAB_TYPE_BPE (llm_tokenizer_bpe in
        src/llama-vocab.cpp).
        """
        llama = library()
        if llama.llama_vocab_type(self._vocab) != llama.LLAMA_VOCAB_TYPE_BPE:
            return ""
        name = ctypes.create_string_buffer(64)
        llama.llama_model_meta_val_str(self._model, b"tokenizer.ggml.pre", name, len(name))
        return name.value.decode()

    @property
    def adds_bos(self) -> bool:
        """True if the vocabulary puts a BOS before a prompt."""
        return bool(library().llama_vocab_get_add_bos(self._vocab))

    @property
    def bos(self) -> int:
        """The BOS id, -1 if none."""
        return int(library().llama_vocab_bos(self._vocab))

    @property
    def tokens(self) -> int:
        """Size of the vocabulary."""
        return int(library().llama_vocab_n_tokens(self._vocab))

    def each_logits(
        self, ids: Sequence[int], start: int, threads: int, block: int = 256
    ) -> Iterator[NDArray[np.float64]]:
        """The logits that foretell ids[i], for each i from `start` on: shape (tokens,).

        Args:
            start: at least 1, since nothing foretells a first token.
            block: tokens evaluated at once; memory holds as many rows.

        Raises:
            ToolFailed: llama.cpp cannot evaluate this model.
        """
        import numpy as np

        llama = library()
        with self.context(len(ids), block, threads) as (context, batch):
            for begin in range(0, len(ids) - 1, block):
                some = ids[begin : min(begin + block, len(ids) - 1)]
                wanted = [begin + i + 1 >= start for i in range(len(some))]
                fill(batch, some, begin, wanted)
                if llama.llama_decode(context, batch) != 0:
                    raise ToolFailed("llama.cpp cannot evaluate this model")
                for i in (i for i, want in enumerate(wanted) if want):
                    row = llama.llama_get_logits_ith(context, i)
                    yield np.ctypeslib.as_array(row, shape=(self.tokens,)).astype(np.float64)

    @contextmanager
    def context(
        self, length: int, block: int, threads: int, *, outputs: int = 0
    ) -> Iterator[tuple[Any, Any]]:
        """A context for `length` tokens, and a batch of `block`.

        Args:
            outputs: tokens of a batch whose logits are kept, at most; 0 for all.

        Raises:
            ToolFailed: llama.cpp makes none for this model.
        """
        llama = library()
        params = llama.llama_context_default_params()
        params.n_ctx = max(length, 32)
        params.n_batch = params.n_ubatch = max(min(block, length), 32)
        params.n_outputs_max = outputs
        params.n_threads = params.n_threads_batch = threads
        context = llama.llama_init_from_model(self._model, params)
        if not context:
            raise ToolFailed("llama.cpp cannot make a context for this model")
        batch = llama.llama_batch_init(params.n_batch, 0, 1)
        try:
            yield context, batch
        finally:
            llama.llama_batch_free(batch)
            llama.llama_free(context)

    def logits(self, ids: Sequence[int], threads: int) -> NDArray[np.float32]:
        """Logits after each token, float32, shape (len(ids), tokens)."""
        import numpy as np

        llama = library()
        with self.context(len(ids), len(ids), threads) as (context, batch):
            fill(batch, ids, 0, [True] * len(ids))
            if llama.llama_decode(context, batch) != 0:
                raise ToolFailed("llama.cpp cannot evaluate this model")
            rows = llama.llama_get_logits(context)
            flat = np.ctypeslib.as_array(rows, shape=(len(ids), self.tokens))
            return flat.astype(np.float32, copy=True)


def _overrides(changed: Mapping[str, int]) -> Any:
    """llama.h, llama_model_kv_override: an array that ends with an empty key."""
    llama = library()
    found = (llama.llama_model_kv_override * (len(changed) + 1))()
    for entry, (key, value) in zip(found, changed.items(), strict=False):
        entry.tag, entry.key = llama.LLAMA_KV_OVERRIDE_TYPE_INT, key.encode()
        entry.value.val_i64 = value
    return found


def fill(batch: Any, ids: Sequence[int], begin: int, wanted: Sequence[bool]) -> None:
    """Tokens at the positions from `begin` on; logits where they are wanted."""
    for i, token in enumerate(ids):
        batch.token[i], batch.pos[i] = token, begin + i
        batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = 1, 0, wanted[i]
    batch.n_tokens = len(ids)


def quantization_types() -> dict[str, int]:
    """llama.cpp's names of the types that it makes without further data, and their numbers."""
    prefix = "LLAMA_FTYPE_MOSTLY_"
    llama = library()
    found = {
        n.removeprefix(prefix): int(getattr(llama, n)) for n in dir(llama) if n.startswith(prefix)
    }
    found = {name: number for name, number in found.items() if name not in UNMADE}
    return {**found, "F32": int(llama.LLAMA_FTYPE_ALL_F32)}


def quantize(source: Path, out: Path, scheme: str, threads: int) -> None:
    """Quantize a 16-bit GGUF; `scheme` is one of `quantization_types()`.

    Raises:
        ToolFailed: llama.cpp refused (it prints why into the stage's log).
    """
    llama = library()
    params = llama.llama_model_quantize_default_params()
    params.ftype = quantization_types()[scheme]
    params.nthread = threads
    if llama.llama_model_quantize(os.fsencode(source), os.fsencode(out), ctypes.byref(params)) != 0:
        raise ToolFailed(
            f"llama.cpp cannot quantize this model to {scheme}", "Try --quantize Q8_0."
        )


def planned_types(source: Path, scheme: str) -> dict[str, str]:
    """ggml's name of the type that each tensor would get: a dry run, which reads no weight.

    Raises:
        ToolFailed: llama.cpp refused, or did not say it of every tensor.
    """
    global _heard
    llama = library()
    params = llama.llama_model_quantize_default_params()
    params.ftype, params.dry_run = quantization_types()[scheme], True
    _heard = []
    try:
        code = llama.llama_model_quantize(os.fsencode(source), b"", ctypes.byref(params))
        said = "".join(_heard)
    finally:
        _heard = None
    found = re.findall(_PLANNED, said, re.MULTILINE)
    count = re.search(r"^\[ *\d+/ *(\d+)\]", said, re.MULTILINE)
    if code != 0 or not count or len(found) != int(count[1]):
        raise ToolFailed(
            f"llama.cpp cannot quantize this model to {scheme}", "Try --quantize Q8_0."
        )
    return {name: (new or old).upper() for name, old, new in found}


# [   1/ 272] blk.0.attn_q.weight   - [ 576,  576, 1, 1], type = f16, size = 0.6 MiB -> … (q8_0)
_PLANNED = r"^\[ *\d+/ *\d+\] (\S+) +- \[.*?\], type = +(\w+), size = [^(\n]*(?:\((\w+)\))?$"

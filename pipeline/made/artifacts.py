"""What the stages make: small frozen values with a path and a content digest.

An artifact's digest covers the files it declares, never a path or a time, so that the same content
made elsewhere is the same artifact. `path` is where it lies on this machine and is no part of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict

from pipeline.common.digests import file_digest
from pipeline.common.values import digest_of, digest_of_files


class Artifact(BaseModel):
    """A finished stage directory (or what is inside) and what is known of it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    FILES: ClassVar[tuple[str, ...]] = ()
    """Names or glob patterns of the files that are the artifact."""

    PURPOSES: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """For whom does not read all files: which of them count, by purpose."""

    path: Path
    digest: str

    def digest_for(self, purpose: str) -> str:
        """Digest of the files that count for a purpose; the whole one's where there is no such.

        Raises:
            OSError: one cannot be read.
        """
        if purpose not in self.PURPOSES:
            return self.digest
        found = {f.name: f for p in self.PURPOSES[purpose] for f in self.path.glob(p)}
        return digest_of({name: file_digest(found[name]) for name in sorted(found)})

    @classmethod
    def at(cls, path: Path, **facts: object) -> Self:
        """The artifact whose declared files lie in `path`."""
        names = sorted({f.name for pattern in cls.FILES for f in path.glob(pattern)})
        return cls.model_validate({"path": path, "digest": digest_of_files(path, names), **facts})


def _objects(path: Path) -> Iterator[dict[str, Any]]:
    """Those of a file of JSON lines, one by one."""
    with path.open("rb") as lines:
        for line in lines:
            yield json.loads(line)


class Base(Artifact):
    """A base model as a Hugging Face directory: weights in 16 bit, tokenizer, the frozen template.

    Files: config.json, generation_config.json, tokenizer.json, tokenizer_config.json,
    chat_template.jinja (the frozen template), model*.safetensors, vocab.gguf (the keys of the GGUF
    that the converter would make: llama.cpp's own view of the tokenizer), outline.json (its
    tensors), LICENSE if the base carries one.
    """

    FILES = (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "tokenizer.model",
        "chat_template.jinja",
        "*.safetensors",
        "vocab.gguf",
        "outline.json",
    )

    PURPOSES: ClassVar[Mapping[str, tuple[str, ...]]] = {
        # llama.cpp's views, vocab.gguf and outline.json, are for packing and serving
        "training": FILES[:6],
    }

    name: str
    """Whose weights these are, for people: `SmolLM2-135M-Instruct`."""
    architecture: str
    """`LlamaForCausalLM`, as in config.json."""
    parameters: int
    """Number of weights."""
    context: int
    """Longest context in tokens that the base was made for."""
    bos: int | None
    """The token id put before a prompt in training and serving, None where the base uses none."""
    bos_text: str
    """How the template spells it ('' where there is none)."""
    eos_text: str
    """What `eos_token` is in the template."""
    end_of_turn: int
    """Token id that ends an answer: a CONTROL token, end-of-generation in the GGUF."""
    end_of_turn_text: str
    control: tuple[str, ...]
    """Spellings of the control tokens: never allowed in a text."""
    nfc: bool
    """True where the tokenizer normalises to NFC by itself, silently."""
    license: str
    """Text or name of the base's licence; '' if unknown."""
    projectors: tuple[str, ...] = ()
    """Layers of a base in Ollama that see or hear, by digest: a specialist is served with them."""
    renderer: str = ""
    """Ollama's own code that renders every model of its family, as `template` does; '' for none."""
    parser: str = ""
    """Ollama's own code that reads its answers."""

    @property
    def template(self) -> str:
        """The frozen chat template (Jinja)."""
        return (self.path / "chat_template.jinja").read_text(encoding="utf-8")

    @property
    def renders(self) -> dict[str, str]:
        """What Ollama has to be told of them; {} where it runs the template in the GGUF."""
        said = {"renderer": self.renderer, "parser": self.parser}
        return {key: name for key, name in said.items() if name}

    @property
    def vocab(self) -> Path:
        """A GGUF with keys and no tensor."""
        return self.path / "vocab.gguf"

    @property
    def outline(self) -> Path:
        """What the converter makes of this base (tools/outline.py)."""
        return self.path / "outline.json"

    @property
    def weights(self) -> list[Path]:
        """The safetensors."""
        return sorted(self.path.glob("*.safetensors"))


class Dataset(Artifact):
    """Token ids and labels per sequence, and the conversations they come from.

    Files: train.jsonl, validation.jsonl, test.jsonl; a line is
    {"messages": [...], "sequences": [{"ids": [int], "labels": [int]}]}: the user's own turns,
    and what is trained of them (SYSTEM in front where it applies). Labels as in torch: -100 is not
    trained. "context": [int] beside them names assistant turns that are not trained, if there are.
    """

    FILES = ("train.jsonl", "validation.jsonl", "test.jsonl")

    rows: int
    train: int
    validation: int
    test: int
    tokens: int
    """Tokens of the train part, once."""
    longest: int
    """Tokens of the longest sequence of any part."""
    longest_answer: int
    """Tokens of the longest trained answer, its end-of-turn included."""
    uses_system: bool
    """True if the Modelfile's SYSTEM went to at least one row."""

    def answers(self) -> Iterator[str]:
        """The texts of the assistant's turns that are learned, in all parts."""
        for part in ("train", "validation", "test"):
            for row in self.each(part):
                context = row.get("context", ())
                for index, turn in enumerate(row["messages"]):
                    if turn["role"] == "assistant" and index not in context:
                        yield turn["content"]

    def each(self, part: str) -> Iterator[dict[str, Any]]:
        """The rows of `train`, `validation` or `test` one by one, as the files hold them."""
        return _objects(self.path / f"{part}.jsonl")


class Adapter(Artifact):
    """A LoRA adapter in PEFT's format, and how it was trained."""

    FILES = ("adapter_model.safetensors", "adapter_config.json")

    loss: float | None
    """Validation loss of the checkpoint that was kept; None without a validation part."""
    epochs: float
    """Epochs behind the checkpoint that was kept."""
    steps: int
    seconds: float
    tokens_per_second: float


class Gguf(BaseModel):
    """A merged, quantized model."""

    model_config = ConfigDict(frozen=True)

    quantization: str
    """llama.cpp's name of its type, `Q8_0`."""
    path: Path

    @property
    def size(self) -> int:
        """Bytes."""
        return self.path.stat().st_size


class Packed(Artifact):
    """The merged model, a file for each quantization that was asked for.

    Files: model.gguf, of the first one, and model-TYPE.gguf of each other.
    """

    FILES = ("*.gguf",)

    quantization: str
    """Of model.gguf."""
    size: int
    """Bytes of model.gguf."""
    loss: float | None = None
    """What a served file is held to: nats per trained token of held-out rows, by base + adapter
    before they were merged and quantized; None if no row has a trained token."""

    @staticmethod
    def names(types: Sequence[str]) -> dict[str, str]:
        """The files' names by quantization."""
        return {name: f"model-{name}.gguf" for name in types} | {types[0]: "model.gguf"}

    @property
    def served(self) -> Gguf:
        """The first one."""
        return Gguf(quantization=self.quantization, path=self.path / "model.gguf")

    @property
    def files(self) -> dict[str, Gguf]:
        """All of them by quantization, the served one first."""
        found = {self.quantization: self.served}
        for path in sorted(self.path.glob("model-*.gguf")):
            name = path.stem.removeprefix("model-")
            found[name] = Gguf(quantization=name, path=path)
        return found


class Scored(BaseModel):
    """A GGUF file that is scored, known by its content."""

    model_config = ConfigDict(frozen=True)

    digest: str
    path: Path
    """The file, or the first one that it is split into."""


class Scores(Artifact):
    """How likely a model finds the answers of the test part.

    Files: rows.jsonl, a line {"row": str, "body": float, "words": int, "end": float, "ends": int}
    each: the beginning of the conversation's digest; nats of the answers' tokens together, and how
    many they are; the same of the tokens that end its turns.
    """

    FILES = ("rows.jsonl",)

    examples: int = 0
    """Conversations that stood in front of each."""

    def each(self) -> Iterator[dict[str, Any]]:
        """The rows one by one."""
        return _objects(self.path / "rows.jsonl")


class Recalled(Artifact):
    """What a model makes of everyday questions.

    Files: items.jsonl, a line {"question": str, "kind": str, "language": str, "margin": float}
    each: by how many nats the right answer is likelier than the best wrong one; above 0 it is
    right.
    """

    FILES = ("items.jsonl",)

    def each(self) -> Iterator[dict[str, Any]]:
        """The items one by one."""
        return _objects(self.path / "items.jsonl")


class Drifted(Artifact):
    """How far a model is from its base where the base speaks.

    Files: answers.jsonl, a line {"question": str, "answer": str, "kl": float, "same": int,
    "tokens": int} each: what the base answers, KL(base || model) in nats summed over its tokens,
    and how many of these are the model's likeliest, too.
    """

    FILES = ("answers.jsonl",)

    def each(self) -> Iterator[dict[str, Any]]:
        """The answers one by one."""
        return _objects(self.path / "answers.jsonl")


class Specialist(BaseModel):
    """Everything that a release registers."""

    model_config = ConfigDict(frozen=True)
    name: str
    base: Base
    data: Dataset
    adapter: Adapter
    packed: Packed
    system: str
    """SYSTEM of the Modelfile, else the system message that all rows share; '' if none."""
    parameters: dict[str, str | int | float | bool | list[str]]
    """PARAMETERs as Ollama's API takes them (`stop` is a list), num_ctx included."""
    license: str
    stages: tuple[str, ...] = ()
    """Names of the stage directories that it was made of."""

    origin: str = ""
    """What FROM said: a name in Ollama, a path, …"""
    origin_digest: str = ""
    """Of what was found there."""
    origin_weights: str = ""
    """The type that its weights lay in, `Q4_K`: a quantized base was trained with its rounding."""

    rows: Artifact | None = None
    """The `Conversations` that `data` was made of: where rows stand in the user's file."""

    def artifacts(self) -> dict[str, Artifact]:
        """What is served of it, by the names that records of releases have for it."""
        return {"base": self.base, "data": self.data, "adapter": self.adapter, "gguf": self.packed}

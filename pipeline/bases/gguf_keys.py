"""What the front of a GGUF says of a model: its hyperparameters, and its tensors' shapes.

key = Keys(path, layout(path))
key("embedding_length")                      # of the key llama.embedding_length
key("rope.scaling.type", "none")             # the second where the first is absent
key.shape("token_embd.weight")               # (rows, columns); None where it is absent
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.common.errors import BadInput
from pipeline.tools.gguf_layout import Layout
from pipeline.tools.gguf_values import decoded

TEMPLATE = "tokenizer.chat_template"
_NEEDED = object()


class Keys:
    """Hyperparameters by their names without the architecture in front."""

    def __init__(self, path: Path, found: Layout) -> None:
        self.path = path
        self._found = found
        self.architecture = str(self.whole("general.architecture"))

    def __call__(self, name: str, otherwise: Any = _NEEDED) -> Any:
        """A hyperparameter.

        Raises:
            BadInput: it is absent, and nothing stands for it.
        """
        return self.whole(f"{self.architecture}.{name}", otherwise)

    def whole(self, name: str, otherwise: Any = _NEEDED) -> Any:
        """A key by its whole name, `tokenizer.ggml.eos_token_id`.

        Raises:
            BadInput: it is absent, and nothing stands for it.
        """
        raw = self._found.keys.get(name)
        if raw is not None:
            try:
                return decoded(raw)
            except ValueError as error:
                raise BadInput(f"{self.path}: {name}: {error}", "Get the file again.") from error
        if otherwise is _NEEDED:
            raise BadInput(f"{self.path} lacks the key {name}", "Get the file again.")
        return otherwise

    def names(self) -> list[str]:
        """All hyperparameters, without the architecture in front."""
        front = f"{self.architecture}."
        return [name.removeprefix(front) for name in self._found.keys if name.startswith(front)]

    def shape(self, tensor: str) -> tuple[int, ...] | None:
        """Rows, columns of a tensor; None where there is none of this name."""
        place = self._found.tensors.get(tensor)
        return (*reversed(place.shape),) if place else None

    def numbers(self, tensor: str) -> list[float] | None:
        """The numbers of a small tensor in F32, such as rope_freqs.weight; None if absent.

        Raises:
            BadInput: it is of another type.
        """
        import numpy as np

        place = self._found.tensors.get(tensor)
        if place is None:
            return None
        if place.kind != "F32":
            raise BadInput(f"{self.path}: {tensor} is in {place.kind}, not F32")
        return [float(n) for n in np.frombuffer(self._found.read(place), np.float32)]

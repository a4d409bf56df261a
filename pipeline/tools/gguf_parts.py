"""The files of a split GGUF, by the names that llama.cpp gives and reads (llama_split_path).

model-00001-of-00003.gguf, model-00002-of-00003.gguf, model-00003-of-00003.gguf
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.common.errors import BadInput
from pipeline.common.foreign import listed

MOST = 1024  # parts; the largest models have some dozens


def parts(path: Path) -> list[Path]:
    """All files of the model that a file is of, in order: the file alone where it is no part.

    Raises:
        BadInput: a part is missing: its name.
    """
    found = re.fullmatch(r"(.+)-(\d{5})-of-(\d{5})\.gguf", path.name)
    if not found:
        return [path]
    number, count = int(found[2]), int(found[3])
    if not 1 <= number <= count <= MOST:
        raise BadInput(f"{path.name} names no part of a model", "Get the file with its own name.")
    names = [f"{found[1]}-{i:05}-of-{found[3]}.gguf" for i in range(1, count + 1)]
    if missing := [name for name in names if not path.with_name(name).is_file()]:
        raise BadInput(
            f"the model is in {count} parts, and {path.parent} lacks {listed(missing)}",
            "Put all parts into one folder, with the names that they were given.",
        )
    return [path.with_name(name) for name in names]

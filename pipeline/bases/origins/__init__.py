"""Where bases come from, a file each. How a base is read is its format's business (`formats`)."""

from pipeline.bases.located import Origin
from pipeline.bases.origins import directory, embedded, gguf_file, hub, merged, ollama

ORIGINS: tuple[Origin, ...] = (
    embedded.ORIGIN,
    hub.ORIGIN,
    merged.ORIGIN,
    gguf_file.ORIGIN,
    directory.ORIGIN,
    ollama.ORIGIN,  # what is nothing else is a name in the local Ollama
)
"""In the order in which they are asked whether a text is theirs."""

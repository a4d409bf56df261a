"""Where bases come from, a file each. How a base is read is its format's business (`formats`)."""

from pipeline.bases.located import Origin
from pipeline.bases.origins import directory, embedded, later

ORIGINS: tuple[Origin, ...] = (
    embedded.ORIGIN,
    later.HUB,
    later.GGUF,
    directory.ORIGIN,
    later.OLLAMA,  # what is nothing else is a name in the local Ollama
)
"""In the order in which they are asked whether a text is theirs."""

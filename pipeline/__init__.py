"""From a business's own examples to a specialist model in its own Ollama."""

__version__ = "0.1.0"

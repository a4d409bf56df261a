"""From a business's own examples to a specialist model in its own Ollama."""

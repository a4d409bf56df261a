"""The outside world: publish in Ollama, prove, promote, and the records of it.

Nothing else changes anything outside the store.
"""

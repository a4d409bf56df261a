"""The outside world: publish in Ollama, prove, judge, promote; versions and their records.

Nothing else changes anything outside the store.
"""

"""What is wanted: the Modelfile, the toml and the flags, as values.

What is left open ("auto") is resolved by `stages/settings`, which knows data and base.
"""

"""Bases of a hub that speaks Hugging Face's protocol: found, downloaded once, checked, kept.

Two requests: the tree of a commit, and a file of it. Not huggingface_hub, which begins a file anew
after a kill (its partial file has another name in every run).
"""

"""The parts of `score`: examples in a prompt, likelihood by llama.cpp."""

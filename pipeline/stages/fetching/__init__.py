"""How fetch makes a base: out of a GGUF or a directory, its template frozen, compared both ways."""

"""The stages, one module each with `STAGE` and `run`."""

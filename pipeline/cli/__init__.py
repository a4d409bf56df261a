"""What a person types and sees: commands and views. Errors become exit codes here."""

from pipeline.cli.commands import main

__all__ = ["main"]

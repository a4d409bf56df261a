"""The set-up: everything that `make specialist` and `make test` need, made once per machine.

    python3 -m pipeline.setup

Runs on the system's Python before anything is installed: standard library only. A file a thing
that is made (`packages`, `sources`, `llama`, `ollama`), each with a `Step`; `needs` says what is
missing before anything long starts; `progress` shows how far it is.
"""

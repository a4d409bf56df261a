"""Small things that every room shares: errors, whole files, digests, records, places, names.

No word of models, stages or Ollama, and no heavy library. `errors`, `values`, `places`, `private`,
`foreign` and `names` use the standard library only: the set-up reads them before anything is there.
"""

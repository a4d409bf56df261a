"""How a stage is run and kept: engines, the process that makes one, the store and its leases.

No stage is known here by name.
"""

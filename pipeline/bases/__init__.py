"""Where a base comes from, whether it can be tuned and served, and its chat template.

Nothing is made here: `stages/fetch` makes a base of what is found.
"""

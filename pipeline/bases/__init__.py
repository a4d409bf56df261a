"""Where a base comes from, how it is read, whether it can be tuned and served, its chat template.

Origin (`origins/`), format (`formats/`) and family (`families/`) know nothing of each other's
choices; `reference` joins them. Nothing is made here: `stages/fetch` makes a base of what is found.
"""

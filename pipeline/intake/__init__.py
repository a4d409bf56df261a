"""What comes in: a file of conversations, read, checked row by row, and told in a value.

Nothing is known here of a base or its tokens. All but `source` use the standard library only: a
broken row is said before anything is set up.
"""

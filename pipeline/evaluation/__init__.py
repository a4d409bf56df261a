"""How good a specialist is on rows that it was not trained on, with intervals, in words."""

"""What a specialist and its base really answer on held-out rows, and what is measured of it."""

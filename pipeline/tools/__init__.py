"""Doors to foreign programs: plain values in and out, foreign errors turned into ours."""

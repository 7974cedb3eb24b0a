"""The tests: one file per behaviour, on real databases."""

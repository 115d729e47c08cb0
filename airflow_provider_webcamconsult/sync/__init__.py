"""Bring all records of a kind in line with rows from another system."""

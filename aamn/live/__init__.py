"""Sentences about what a camera shows now."""

"""Judging finished models: errors on labelled structures, and physics that they must have."""

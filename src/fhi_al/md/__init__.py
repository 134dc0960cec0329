"""Molecular dynamics on ASE's integrators, guarded against structures that make no sense."""

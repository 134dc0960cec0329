"""State and decisions: frozen dataclasses and pure functions over numpy; no torch, MPI, ASE or files."""

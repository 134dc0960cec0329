"""State and decisions as frozen data and pure functions; no torch, MPI, ASE or files."""

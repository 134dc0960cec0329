"""Shared fixtures.  Its presence puts tests/ on the path, so that tests import ``asi.build``."""

from __future__ import annotations

import os

# Oversubscribed threads make a 6 ms call take 150 ms; set before numpy and torch load OpenMP.
os.environ["OMP_NUM_THREADS"] = "1"

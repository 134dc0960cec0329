"""The report of a run: one HTML file with figures, which needs no network."""

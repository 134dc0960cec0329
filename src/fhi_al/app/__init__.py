"""Open, check and wire a run: from settings or Python objects to parts that work together."""

"""A folder for a new run: what ``FHI_AL-init`` finds out, writes and says."""

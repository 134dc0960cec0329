"""Reference engines (FHI-aims through ASI, tblite, any ASE calculator) and the pools that label."""

"""Files that survive a kill: atomic writes, snapshots, the folder's lock."""

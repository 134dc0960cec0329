"""Labels of structures of the user: what ``FHI_AL-label`` is asked, computes, writes and says."""

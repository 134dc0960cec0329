"""Models judged against a reference: what ``FHI_AL-evaluate`` asks, computes, writes and says."""

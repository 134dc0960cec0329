"""Labels as jobs on a cluster, by Parsl."""

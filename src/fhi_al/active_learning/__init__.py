"""What a run does, as serial code on rank 0: initial dataset, active learning, convergence."""

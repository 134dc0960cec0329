"""MPI: the private communicator, commands and answers, who does what."""

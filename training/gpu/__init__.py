"""What needs a GPU, for a machine that has JAX and nothing else."""

"""What is run and where it is kept: grids, the runner, the store, estimates and comparisons of stored runs."""

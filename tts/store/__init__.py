"""Where trajectories are kept: chunks, runs, imports."""

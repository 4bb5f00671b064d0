"""From trajectories to numbers: per-problem accuracies and tokens, statistics, difficulty, errors of PRMs, FLOPs."""

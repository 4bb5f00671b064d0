"""What is run: grids, chunks made side by side or on a cluster, dry runs."""

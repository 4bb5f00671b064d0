"""What every room may use: files, paths, names."""

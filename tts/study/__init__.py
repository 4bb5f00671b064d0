"""Presets, notebooks and the command line."""

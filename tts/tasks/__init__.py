"""Kinds of problems: prompts, steps, answers, grading, selection."""

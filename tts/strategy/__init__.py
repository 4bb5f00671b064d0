"""The compute-optimal strategy: which method, rule and budget to use; the adviser and the verifier map."""

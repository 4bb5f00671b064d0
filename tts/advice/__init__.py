"""Which method, rule and budget to take: the cross-fitted strategy, the adviser, the verifier map."""

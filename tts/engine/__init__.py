"""The engine: any causal transformer over a KV cache that sequences enter, leave and fork."""

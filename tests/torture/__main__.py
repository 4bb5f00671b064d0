"""``make torture``: runs the campaign, or the named parts of it, and writes what it counted to docs/torture.md."""

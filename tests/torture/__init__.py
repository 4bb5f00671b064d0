"""``make torture``: a campaign against the suite; one module a theme, each with counts for the report."""

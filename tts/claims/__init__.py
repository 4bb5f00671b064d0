"""The study's claims and published tables, and what became of them."""

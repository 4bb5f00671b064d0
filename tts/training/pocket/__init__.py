"""The pocket family: recipes, corpora, cards."""

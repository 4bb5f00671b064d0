"""The pocket family: problems, tokenizer and recipes of the small models that the suite trains itself."""

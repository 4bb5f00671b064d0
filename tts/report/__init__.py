"""What a reader sees: tables, sentences, figures, the search explorer, the HTML report."""

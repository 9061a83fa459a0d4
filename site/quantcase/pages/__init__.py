"""One module per kind of page: a case and its analysis in, Markdown out."""

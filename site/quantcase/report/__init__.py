"""One case as a printed report: an HTML document that needs nothing beside itself, and the PDF made of it."""

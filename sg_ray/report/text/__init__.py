"""Tables and comparisons as plain text and CSV."""

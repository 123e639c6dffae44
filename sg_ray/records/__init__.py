"""What was done: records, journal, tables, and what follows from them."""

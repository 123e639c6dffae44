"""What was begun and done: settings, records, journal, tables, and what follows from them."""

"""Ray: sessions, addresses, groups of workers, what goes wrong with them."""

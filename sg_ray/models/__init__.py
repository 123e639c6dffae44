"""Model families: one file each, one row each in ``families.FAMILIES``."""

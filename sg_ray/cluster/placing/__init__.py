"""How many trials a cluster holds, and whether one fits beside those that run."""

"""Who does it: Ray Tune's trials, and what becomes of each."""

"""A sweep: what is left to do (plan), who does it (Ray Tune), and what was done (records)."""

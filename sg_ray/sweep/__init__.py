"""A sweep from experiment to verdict: what is left to do (plan), who does it (execute)."""

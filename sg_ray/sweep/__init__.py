"""A sweep from experiment to leaderboard: what is left to do (plan), who does it (execute)."""

"""What an experiment would do, and whether it can run here: found out before hours are spent."""

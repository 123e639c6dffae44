"""Whether an experiment can run here, found out in a minute or two, before hours are spent."""

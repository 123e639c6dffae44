"""Statistics of scores over seeds: plain numbers in, plain numbers out; no knowledge of sweeps."""

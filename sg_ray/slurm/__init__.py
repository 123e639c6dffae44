"""The batch script by which SLURM runs a sweep, in as many allocations as it takes."""

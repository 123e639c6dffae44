"""The machine and this process: CPUs, memory, limits, threads."""

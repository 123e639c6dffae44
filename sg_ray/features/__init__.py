"""C source turned into packed arrays: tokens, program graphs, raw text."""

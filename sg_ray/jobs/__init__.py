"""The jobs of a sweep: what each is, how it runs step by step, and the checkpoints it leaves."""

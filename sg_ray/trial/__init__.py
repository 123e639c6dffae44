"""One trial: one configuration x one seed, the same wherever it runs.

Called by the Tune actor, by each worker of a TorchTrainer group, and by ``sg-ray train``.
"""

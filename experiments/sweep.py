"""The main job: ``python experiments/sweep.py [EXPERIMENT.yaml] [key=value ...]``.

The same as ``sg-ray sweep``; without a file it runs ``quick.yaml`` beside this script.
"""

import sys
from pathlib import Path

from sg_ray.__main__ import run

if __name__ == "__main__":
    run(["sweep", *sys.argv[1:]], default_experiment=Path(__file__).parent / "quick.yaml")

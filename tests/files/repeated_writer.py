"""A process that writes one JSON file again and again until it is killed."""

import sys
from itertools import count
from pathlib import Path

from sg_ray.files import write_json

NUM_ROWS = 10_000

if __name__ == "__main__":
    path = Path(sys.argv[1])
    for number in count():
        write_json(path, {"number": number, "rows": [f"row {number}"] * NUM_ROWS})
        if number == 0:
            print("first", flush=True)

"""Draws functions from the templates: names, constants and filler statements, then layout."""

import random

from sg_ray.data.samples import Sample
from sg_ray.data.synthetic.templates import TEMPLATES, Template

NAMES = {
    "index": ("idx", "pos", "slot", "off"),
    "number": ("count", "width", "scale", "step"),
    "object": ("req", "pkt", "dev", "ctx"),
    "text": ("name", "path", "label", "host"),
}
VERBS = ("read", "load", "store", "parse", "update", "handle", "set", "get")
NOUNS = ("frame", "block", "entry", "header", "queue", "event", "page", "field")
STRUCTS = ("packet", "device", "buffer", "session")
OWNERS = ("st", "self", "obj")
SPARES = ("val", "arg", "num")
ERRORS = ("1", "EINVAL", "EIO", "ERANGE")
LIMITS = (16, 32, 64, 128, 256)
FILLERS = ("calls++;", "depth--;", "hits++;", "level--;", "tick();", "trace();")


def generate(num_samples: int, seed: int) -> list[Sample]:
    """Return ``num_samples`` distinct functions, vulnerable and fixed of each pair adjacent."""
    rng = random.Random(seed)
    samples: list[Sample] = []
    seen: set[str] = set()
    while len(samples) < num_samples:
        number = len(samples) // 2
        template = TEMPLATES[number % len(TEMPLATES)]
        unsafe, safe = _draw_pair(template, rng)
        if unsafe in seen or safe in seen:
            continue
        seen |= {unsafe, safe}
        key = f"{template.weakness}-{number:05d}"
        samples += [Sample(unsafe, 1, f"{key}-v"), Sample(safe, 0, f"{key}-f")]
    return samples


def _draw_pair(template: Template, rng: random.Random) -> tuple[str, str]:
    a, b = rng.sample(NAMES[template.role], 2)
    words = {
        "a": a,
        "b": b,
        "o": rng.choice(OWNERS),
        "s": rng.choice(STRUCTS),
        "n": rng.choice(SPARES),
        "k": str(rng.randint(1, 9)),
        "K": str(rng.choice(LIMITS)),
        "e": rng.choice(ERRORS),
    }
    num_gaps = len(template.safe) + 1
    fillers = [
        (min(gap, num_gaps - 1), rng.choice(FILLERS)) for gap in range(num_gaps + rng.randint(0, 2))
    ]
    name = f"{rng.choice(VERBS)}_{rng.choice(NOUNS)}"
    parameters = template.parameters.split(", ")
    rng.shuffle(parameters)
    head = f"static int {name}({', '.join(parameters)})"

    def render(statements: tuple[str, ...]) -> str:
        lines = [head, "{{", "    int ret = 0;"]
        if template.local:
            lines.append("    " + template.local)
        for gap in range(num_gaps):
            lines += ["    " + text for at, text in fillers if at == gap]
            if gap < len(statements):
                lines += [
                    "    " + line
                    for line in statements[gap].replace(") return", ")\n    return").split("\n")
                ]
        lines += ["    return ret;", "}}"]
        return "\n".join(lines).format(**words) + "\n"

    return render(template.unsafe), render(template.safe)

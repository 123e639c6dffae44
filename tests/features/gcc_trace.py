"""What traced functions do on all their paths, as gcc compiles them."""

import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from traced_c import TracedSample

_RUNTIME = r"""
#include <setjmp.h>
#include <stdio.h>
#include <string.h>

enum { SG_KEYS = 1024, SG_SLOTS = 512, SG_MAX_BITS = 4096 };
typedef unsigned char sg_pairs[SG_KEYS][SG_KEYS];
static sg_pairs sg_flow, sg_use, sg_reread;
static struct { void *place; int run, writer, reader; } sg_slots[SG_SLOTS];
static unsigned char sg_bits[SG_MAX_BITS];
static int sg_run, sg_used, sg_given, sg_steps;
static unsigned sg_state, sg_density;
static jmp_buf sg_end;
static int a[4];
static struct { int m; } s;

/* Decisions come from the bits given, then (in random runs) from a generator, else are 0. */
static int sg_bit(void) {
    if (sg_used < sg_given) return sg_bits[sg_used++];
    int bit = 0;
    if (sg_density) bit = ((sg_state = sg_state * 1103515245u + 12345u) >> 16) % 8 < sg_density;
    if (sg_used < SG_MAX_BITS) sg_bits[sg_used++] = bit;
    return bit;
}
static int c(int value) { return sg_bit(); }
static int n(int value) { int x = sg_bit(); x = 2 * x + sg_bit(); return 2 * x + sg_bit(); }

static int sg_slot(void *place) {
    unsigned at = ((unsigned long)place >> 2) % SG_SLOTS;
    while (sg_slots[at].run == sg_run && sg_slots[at].place != place) at = (at + 1) % SG_SLOTS;
    if (sg_slots[at].run != sg_run) {
        sg_slots[at].place = place; sg_slots[at].run = sg_run;
        sg_slots[at].writer = sg_slots[at].reader = 0;
    }
    return at;
}
static void sg_at(int *previous, int key) {
    sg_flow[*previous][key] = 1;
    *previous = key;
    if (++sg_steps > 300) longjmp(sg_end, 1);
}
static void sg_read(int key, void *place) {
    int at = sg_slot(place);
    if (sg_slots[at].writer) sg_use[sg_slots[at].writer][key] = 1;
    if (sg_slots[at].reader) sg_reread[sg_slots[at].reader][key] = 1;
    sg_slots[at].reader = key;
}
static void sg_write(int key, void *place) {
    int at = sg_slot(place);
    sg_slots[at].writer = key; sg_slots[at].reader = 0;
}
static int sg_may_write(int key, void *place) {
    if (sg_bit()) sg_write(key, place);
    return 1;
}
/* A static variable has its value before it is declared. */
static void sg_initial(int key, void *place) {
    int at = sg_slot(place);
    if (!sg_slots[at].writer) sg_slots[at].writer = key;
}
static void sg_once(int (*function)(int, int)) {
    sg_run++; sg_used = sg_steps = 0;
    if (!setjmp(sg_end)) function(0, 0);
}
/* All strings of decisions in turn, as a counter; then random ones. */
static void sg_all_runs(int (*function)(int, int), int exhaustive, int random) {
    sg_density = 0; sg_given = 0;
    for (int i = 0; i < exhaustive; i++) {
        sg_once(function);
        int last = (sg_used < 40 ? sg_used : 40) - 1;
        while (last >= 0 && sg_bits[last]) last--;
        if (last < 0) return;
        sg_bits[last] = 1; sg_given = last + 1;
    }
    sg_given = 0;
    for (int i = 0; i < random; i++) {
        sg_state = i * 2654435761u; sg_density = 1 + i % 7;
        sg_once(function);
    }
}
static void sg_print(char name, unsigned char (*seen)[SG_KEYS], int keys) {
    for (int i = 1; i <= keys; i++) for (int j = 1; j <= keys; j++)
        if (seen[i][j]) { printf("%c %d %d\n", name, i, j); seen[i][j] = 0; }
}
"""


@dataclass
class Seen:
    """Pairs of keys that at least one run showed."""

    flow: set[tuple[int, int]] = field(default_factory=set)
    uses: set[tuple[int, int]] = field(default_factory=set)
    rereads: set[tuple[int, int]] = field(default_factory=set)


def has_gcc() -> bool:
    return shutil.which("gcc") is not None


def run_with_gcc(
    samples: Sequence[TracedSample], folder: Path, *, num_runs: tuple[int, int] = (600, 400)
) -> list[Seen]:
    """Return what the runs of each sample showed: exhaustive ones, then random ones if needed."""
    source, program = folder / "traced.c", folder / "traced"
    source.write_text(_program(samples, num_runs), encoding="ascii")
    subprocess.run(
        ["gcc", "-std=gnu17", "-O0", "-w", "-o", program, source], check=True, timeout=300
    )
    output = subprocess.run([program], check=True, timeout=300, capture_output=True, text=True)
    return _parse(output.stdout, len(samples))


def _program(samples: Sequence[TracedSample], num_runs: tuple[int, int]) -> str:
    main = []
    for sample in samples:
        runs = ", ".join(map(str, num_runs))
        main += [f"sg_all_runs((int (*)(int, int)){name}, {runs});" for name in sample.functions]
        kinds = (("f", "sg_flow"), ("u", "sg_use"), ("r", "sg_reread"))
        main += [f"sg_print('{name}', {seen}, {sample.num_keys});" for name, seen in kinds]
        main.append('puts("end");')
    functions = "\n".join(sample.traced for sample in samples)
    return f"{_RUNTIME}\n{functions}\nint main(void) {{\n" + "\n".join(main) + "\nreturn 0; }\n"


def _parse(output: str, num_samples: int) -> list[Seen]:
    seen = [Seen()]
    for line in output.splitlines():
        if line == "end":
            seen.append(Seen())
            continue
        kind, first, second = line.split()
        pairs = {"f": seen[-1].flow, "u": seen[-1].uses, "r": seen[-1].rereads}[kind]
        pairs.add((int(first), int(second)))
    assert len(seen) == num_samples + 1
    return seen[:-1]

"""The text of the batch script.

All that differs between jobs stands at its top, quoted; what follows is the same for all.
"""

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sg_ray.commands import GO_ON
from sg_ray.errors import InputError
from sg_ray.sweep_folder import SweepFolder

_PLAIN = re.compile(r"[A-Za-z0-9_./:@%+,=-]+")
"""What needs no quotes in a line of options for sbatch."""


@dataclass(frozen=True)
class Job:
    """What is asked of SLURM, and what is to be run.

    ``num_cpus``, ``gpus`` (a number, or TYPE:NUMBER) and ``memory`` (such as ``64G``) are of each
    node; None leaves them, and the time, to the cluster. ``options`` are more lines for sbatch.
    """

    name: str
    arguments: tuple[str, ...]
    """Of ``sg-ray sweep``."""
    folder: Path
    """The working folder, absolute."""
    python: Path
    log: Path
    """Absolute; ``%j`` stands for the job's number."""
    sweep: SweepFolder
    """Absolute, or as seen from ``folder``."""
    go_on: str
    """The command that goes on with the sweep, in a job."""
    written_by: str
    """The command that a reader can give again."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """Variables that every job needs, whatever the shell that submits it has set."""
    num_nodes: int = 1
    time_limit: str | None = None
    num_cpus: int | None = None
    gpus: str | None = None
    memory: str | None = None
    partition: str | None = None
    account: str | None = None
    signal_before_s: int = 120
    options: tuple[str, ...] = ()


def batch_script(job: Job) -> str:
    """Return the script, for bash. Raises InputError for a line break in what it names."""
    parts = [_head(job), _BEGIN]
    if job.num_nodes > 1:
        parts.append(_RAY_ON_ALL_NODES)
    return "\n".join([*parts, _RUN, _END])


def _head(job: Job) -> str:
    """Return the options for sbatch, and the variables that the rest of the script uses."""
    lines = [
        "#!/usr/bin/env bash",
        f"# Written by: {_one_line(job.written_by)}",
        "# `sbatch` starts it, and goes on with what an earlier job has left. After a change of",
        "# code, data or pretrained files write --anew or --keep-records behind the script's name.",
        *(f"#SBATCH {option}" for option in _options(job)),
        "set -u",
        "",
        f"python={shlex.quote(_one_line(str(job.python)))}",
        f"sweep=({shlex.join(map(_one_line, job.arguments))})",
        f"begun={shlex.quote(_one_line(str(job.sweep.settings)))}",
        f"again=(sweep --resume {shlex.quote(_one_line(str(job.sweep)))})",
        f"journal={shlex.quote(_one_line(str(job.sweep.events)))}",
        *(
            f"export {name}={shlex.quote(_one_line(value))}"
            for name, value in {**job.environment, GO_ON: _told_way_on(job)}.items()
        ),
    ]
    if job.num_nodes > 1:
        ray_log = job.log.with_name(job.log.name.replace("%j", "$SLURM_JOB_ID.ray"))
        place = shlex.quote(f"{_one_line(str(ray_log.parent))}/")
        lines.append(f'ray_log={place}"{ray_log.name}"')
    lines.append(f"cd {shlex.quote(_one_line(str(job.folder)))} || exit 1")
    return "\n".join(lines) + "\n"


def _told_way_on(job: Job) -> str:
    """Return what an interrupted sweep says: whoever ends the job decides what comes next."""
    return f"{job.go_on} (nothing to do if SLURM has queued the job again)"


def _options(job: Job) -> list[str]:
    """Return each option for sbatch as it stands in a script."""
    asked = {
        "job-name": job.name,
        "output": _pattern(job.log),
        "open-mode": "append",
        "nodes": str(job.num_nodes),
        "ntasks-per-node": "1",
        "time": job.time_limit,
        "cpus-per-task": None if job.num_cpus is None else str(job.num_cpus),
        "gres": None if job.gpus is None else f"gpu:{job.gpus}",
        "mem": job.memory,
        "partition": job.partition,
        "account": job.account,
        "signal": f"B:USR1@{job.signal_before_s}",
    }
    given = [f"--{name}={_quoted(value)}" for name, value in asked.items() if value is not None]
    return [*given, "--requeue", *map(_one_line, job.options)]


def _pattern(log: Path) -> str:
    """Return the name of a log file as SLURM takes it: ``%`` begins what it fills in."""
    return f"{str(log.parent).replace('%', '%%')}/{log.name}"


def _quoted(value: str) -> str:
    """Return a value as sbatch reads it: in double quotes, with backslashes, unless it is plain."""
    if _PLAIN.fullmatch(_one_line(value)):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _one_line(text: str) -> str:
    if text.splitlines() not in ([text], []):
        raise InputError(f"{text!r}: a line break cannot stand in a batch script. Leave it out.")
    return text


_BEGIN = """\
echo "== job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST"

unset RAY_ADDRESS  # of the shell that submits it: a job has a Ray of its own
# Ray's sockets, logs and temporary files: on this node's own disk, below a short path (sockets
# may have 107 bytes).
tmp=$(mktemp -d "/tmp/sg-ray-$SLURM_JOB_ID-XXXXXX") || exit 1
export TMPDIR=$tmp RAY_TMPDIR=$tmp
clean() { rm -rf "$tmp"; }
trap clean EXIT

# Queued again it goes on as it was begun: `auto` may mean other numbers on this node.
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ] && [ -e "$begun" ]; then
    sweep=("${again[@]}")
else
    sweep+=("$@")
fi

# USR1: the limit is near, or somebody asks for a break: save positions, go on later.
# TERM: the job is cancelled, queued again by SLURM, or at its limit: save positions, end.
driver='' warned='' ended='' heard=''
trap 'warned=1; heard=1; tell USR1' USR1
trap 'ended=1; heard=1; tell TERM' TERM
tell() { [ -z "$driver" ] || kill -s "$1" "$driver" 2>/dev/null; }
"""

_RAY_ON_ALL_NODES = """\
# Ray on each node: it stays while descriptor 9 is open here, and hears no signal of SLURM's.
{ mkfifo "$tmp/open" && exec 9<>"$tmp/open"; } || exit 1
clean() {
    exec 9>&-
    for _ in {1..30}; do [ -z "$(jobs -rp)" ] || sleep 1; done  # until Ray has ended
    rm -rf "$tmp"
}
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$("$python" -c 'import secrets; print(secrets.token_hex(32))')
node=("$python" -m sg_ray.cluster.job_node --folder "$tmp")
on_nodes() {  # FIRST NUMBER COMMAND...
    srun --overlap --export=ALL --cpu-bind=none --kill-on-bad-exit=0 \\
        ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} \\
        --relative="$1" --nodes="$2" --ntasks="$2" --ntasks-per-node=1 "${@:3}"
}
num_others=$((SLURM_JOB_NUM_NODES - 1))
ip=$(on_nodes 1 1 printenv SLURM_LAUNCH_NODE_IPADDR) || exit 1  # of this node, as another sees it
on_nodes 0 1 "${node[@]}" head "$ip" <"$tmp/open" 9>&- >>"$ray_log" 2>&1 &
address=$("${node[@]}" await 1) || exit 1
on_nodes 1 "$num_others" "${node[@]}" join "$address" <"$tmp/open" 9>&- >>"$ray_log" 2>&1 &
"${node[@]}" await "$SLURM_JOB_NUM_NODES" >/dev/null || exit 1
sweep+=(--address "$address")
"""

_RUN = """\
num_done() {
    local n
    n=$(grep -cE '"type": "(lr_range|trial_|epoch|test_)' "$journal" 2>/dev/null)
    echo "${n:-0}"
}
before=$(num_done)
[ -z "$warned$ended" ] || exit 1  # there was no time to begin
"$python" -m sg_ray "${sweep[@]}" &
driver=$!
[ -z "$warned" ] || tell USR1  # heard since, when there was nobody to tell yet
[ -z "$ended" ] || tell TERM
heard=1
while [ -n "$heard" ]; do  # a signal ends `wait`, not the sweep
    heard=''
    wait "$driver"
    code=$?
done
"""

_END = """\
# 128 and more: interrupted, with work left. An error ends the job, and so does scancel.
goes_on=''
[ -z "$warned" ] || [ -n "$ended" ] || [ "$code" -le 128 ] || goes_on=1
clean  # takes a while: the limit's TERM may come meanwhile, and changes nothing
if [ -n "$goes_on" ]; then
    if [ "$(num_done)" = "$before" ]; then
        echo "no trial began or went on, so the job is not queued again: give it more --time"
    elif (trap '' TERM; exec scontrol requeue "$SLURM_JOB_ID"); then  # which may end this very job
        echo "job $SLURM_JOB_ID is queued again, to go on"
    else
        echo "job $SLURM_JOB_ID cannot be queued again: sbatch goes on, as said above"
    fi
fi
exit "$code"
"""

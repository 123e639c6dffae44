# Read by every shell on a cluster's head: set-up-head.sh puts it into ~/.bashrc.
# What is started here uses the cluster: `python experiments/sweep.py` joins it, and says so in its
# first line; `--address local` overrules. If the cluster is down that is an error, no local run.
export RAY_ADDRESS=127.0.0.1:6379

# The token of ~/.ray/auth_token is shown; without this variable a driver shows none.
export RAY_AUTH_MODE=token

# `ray job stop` asks a sweep as Ctrl-C does and gives it a minute to save all positions.
export RAY_JOB_STOP_SIGNAL=SIGINT RAY_JOB_STOP_WAIT_TIME_S=60

export PATH="$HOME/sg-ray/.venv/bin:$PATH"

#!/usr/bin/env bash
# Prepares a cluster's head, after set-up.sh: its shells know the cluster, and MLflow is served.
set -euo pipefail
cd ~/sg-ray

# As the first line: Ubuntu's .bashrc ends early in a shell without a terminal, and the commands of
# `ssh HEAD COMMAND` are to use the cluster too. Without ~/sg-ray the line does nothing.
line='[ ! -r ~/sg-ray/clusters/head-shell.sh ] || . ~/sg-ray/clusters/head-shell.sh'
touch ~/.bashrc
if ! grep -qxF "$line" ~/.bashrc; then
    others=$(cat ~/.bashrc)
    printf '%s\n' "$line" "$others" > ~/.bashrc
fi

# MLflow's pages, for this machine alone: `ray attach -p 5000` makes them yours.
serve=(.venv/bin/python -m mlflow server --host 127.0.0.1 --port 5000 --workers 1
    --backend-store-uri "sqlite:///$HOME/sg-ray/mlflow.db")
if ! pgrep -u "$(id -u)" -f "mlflow server --host 127.0.0.1 --port 5000" >/dev/null; then
    export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false  # processes that nobody needs here
    setsid nohup "${serve[@]}" >> mlflow-server.log 2>&1 < /dev/null &
fi

#!/usr/bin/env bash
# Installs the project in ~/sg-ray at the versions of its lock, on each machine of a cluster.
# Where that is done already, nothing happens: `make` sees it by .venv's stamp.
#
#   [PYTHON=python3.12] bash ~/sg-ray/clusters/set-up.sh [install|aws|gcp]
set -euo pipefail
cd ~/sg-ray
chmod 600 ~/.ray/auth_token  # Ray writes it for everybody to read

if ! command -v make >/dev/null || ! "${PYTHON:-python3}" -c 'import ensurepip' 2>/dev/null; then
    # A machine that has just started may still be installing its own updates.
    apt=(sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=600)
    "${apt[@]}" update
    "${apt[@]}" install -y make python3-venv
fi
make "${1:-install}"

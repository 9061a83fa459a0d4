#!/usr/bin/env bash
# install_peers.sh DIR: GuideLLM and AIPerf, each in an environment of its own, for `make bench`. About 6 GB.
set -euo pipefail
dir=${1:?where to}
mkdir -p "$dir"
for spec in guidellm==0.8.1 aiperf==0.13.0; do
  name=${spec%%==*}
  if [ ! -x "$dir/$name/bin/$name" ]; then
    python3 -m venv "$dir/$name"
    "$dir/$name/bin/python" -m pip install --quiet --disable-pip-version-check "$spec"
  fi
done

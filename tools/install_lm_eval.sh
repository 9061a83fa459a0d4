#!/usr/bin/env bash
# EleutherAI's lm-evaluation-harness into a virtual environment of its own: tools/install_lm_eval.sh FOLDER. Does nothing
# when it is there.
#
# `[api]` is what asks a server: no torch, no CUDA. The task's own choices (which prompt, which filter, which metric)
# come with the version, so it is pinned: two runs of one task compare only under one version.
set -euo pipefail
folder=${1:?folder}
version=0.4.13
[ -e "$folder/.ready-$version" ] && exit 0
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "lm-eval[api]==$version"
"$folder/bin/lm_eval" --help >/dev/null
touch "$folder/.ready-$version"

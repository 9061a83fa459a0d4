#!/usr/bin/env bash
# SkyPilot into a virtual environment of its own: tools/install_skypilot.sh FOLDER. Does nothing when it is there.
#
# Its parser checks examples/fleet/*.yaml in the tests; nothing is rented. Pinned, because what a cloud supports is part
# of the version.
set -euo pipefail
folder=${1:?folder}
version=0.14.1
[ -e "$folder/.ready-$version" ] && exit 0
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/python" -m pip install --quiet --disable-pip-version-check "skypilot[runpod,lambda]==$version"
"$folder/bin/python" -c 'import sky; sky.Task'
touch "$folder/.ready-$version"

#!/bin/sh
# asv into an environment of its own, for `python -m benchmarks.site`: it publishes the same runs beside our builds.
set -eu
folder="${1:?usage: install_asv.sh FOLDER}"
test -x "$folder/bin/python" || python3 -m venv "$folder"
test -x "$folder/bin/asv" || "$folder/bin/python" -m pip install --quiet --disable-pip-version-check asv==0.6.6

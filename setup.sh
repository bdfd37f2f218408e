#!/bin/sh
# Makes .venv from requirements.lock; does nothing if the lock file has not changed.
# Every file is checked against the hashes of the lock, and nothing is built from source.
# pip downloads torch first, by its exact pin: pip's own configuration (find-links, indexes) decides
# which build is taken, and no later package can replace it. uv installs the rest, ten times faster.
# The modules that commands import are compiled to bytecode by importing them once, not all 12,000
# files of the packages, which takes a minute of work. Without bytecode, where Python is set to write
# none (PYTHONDONTWRITEBYTECODE), each start of the program takes three seconds more.
set -eu
cd "$(dirname "$0")"
stamp=.venv/installed.lock
if [ -f "$stamp" ] && cmp -s requirements.lock "$stamp"; then exit 0; fi
rm -rf .venv
if python3 -m pip --version >/dev/null 2>&1; then
  python3 -m venv --without-pip .venv
  pip="python3 -m pip --python .venv/bin/python"
else  # an activated environment without pip: the slower way
  python3 -m venv .venv
  pip=".venv/bin/python -m pip"
fi
first=.venv/first
mkdir "$first"
awk '/^[a-z]/ {keep = /^(torch|uv)==/} keep' requirements.lock >"$first/requirements.lock"
# Checked after the download: asked for hashes, pip prefers builds with a hash in their address.
$pip download -q --no-deps --only-binary :all: -d "$first" $(awk '/==/ {print $1}' "$first/requirements.lock")
$pip install -q --no-compile --no-deps --no-index --find-links "$first" --require-hashes -r "$first/requirements.lock"
rm -r "$first"
uv_install=".venv/bin/uv pip install -q --python .venv/bin/python --no-deps"
$uv_install --require-hashes --no-build -r requirements.lock
if grep -q '^Requires-Dist: nvidia-' .venv/lib/python3.*/site-packages/torch-*.dist-info/METADATA; then
  $uv_install --require-hashes --no-build -r requirements-cuda.lock
fi
$uv_install --no-build-isolation --editable .
export PYTHONDONTWRITEBYTECODE=
.venv/bin/python -W ignore -c 'import torch._dynamo; from transformers import AutoModel, AutoProcessor, CLIPModel' &
.venv/bin/python -W ignore -c 'import faiss, fastapi, hypothesis, matplotlib.pyplot, starlette.testclient, uvicorn'
.venv/bin/python -m compileall -q src
wait
cp requirements.lock "$stamp"

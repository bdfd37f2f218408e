#!/bin/sh
# Makes .venv from requirements.lock; does nothing if the lock file has not changed.
# pip installs torch first, by its exact pin: pip's own configuration (find-links, indexes) decides
# which build is taken, and no later package can replace it. uv installs the rest, ten times faster.
# Both compile to bytecode: without it, each start of the program takes three seconds more.
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
$pip install -q -c requirements.lock uv torch==2.13.0
.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --compile-bytecode -r requirements.lock
.venv/bin/uv pip install -q --python .venv/bin/python --no-deps --no-build-isolation --editable .
.venv/bin/python -m compileall -q src
cp requirements.lock "$stamp"

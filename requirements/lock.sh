#!/bin/sh
# Write the locked requirement files from pyproject.toml and the *.in files: every version pinned, every file hashed.
# Needs uv (pip install uv). torch is pinned apart, in torch.txt: its CPU and CUDA builds are different files with
# different dependencies, and the owner of a machine chooses between them.
set -eu
cd "$(dirname "$0")"
lock() {
    out=$1; shift
    uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
        --no-header --override no-cuda.in --no-emit-package torch "$@" --output-file "$out"
}
lock run.txt ../pyproject.toml build.in --extra tune --extra serve --extra docs --extra trust
lock dev.txt ../pyproject.toml build.in --extra dev
uv pip compile --quiet --no-deps --generate-hashes --no-emit-index-url --no-annotate --no-header oracles.in --output-file oracles.txt

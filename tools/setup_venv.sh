#!/usr/bin/env bash
# tools/setup_venv.sh: create .venv with all that mmdiffdet needs.
# Each finished step leaves a mark in .venv, so that a run that was stopped
# goes on where it was. PYTHON names another interpreter than python3, TORCH
# another version of PyTorch than 2.13.0;
# OPERATORS=1 compiles MMCV's operators, which takes a C++ compiler and 10 to 15
# minutes on 2 cores, and is for those who use operators that are not ours.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=.venv
marks=$venv/.mmdiffdet
log=$venv/setup.log

say() { printf '[setup] %s\n' "$*"; }

# step NAME TEXT COMMAND...: run COMMAND once, with a sign of life every minute
step() {
    local name=$1 text=$2
    shift 2
    [ -e "$marks/$name" ] && return
    say "$text"
    local start=$SECONDS beat=0
    "$@" >"$log" 2>&1 &
    local job=$!
    trap 'kill $job 2>/dev/null; say "stopped; run the same command to go on"; exit 130' INT TERM
    while kill -0 "$job" 2>/dev/null; do
        sleep 1
        if (((SECONDS - start) / 60 > beat)); then
            beat=$(((SECONDS - start) / 60))
            say "  ... $beat min"
        fi
    done
    trap - INT TERM
    if ! wait "$job"; then
        tail -n 30 "$log" >&2
        say "failed: $text (all of it in $log)" >&2
        exit 1
    fi
    touch "$marks/$name"
}

if [ ! -x "$venv/bin/python" ] || [ ! -d "$marks" ]; then
    python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || {
        say "$python is older than 3.10; set PYTHON=python3.11" >&2
        exit 1
    }
    say "creating $venv with $("$python" --version)"
    "$python" -m venv "$venv"
    mkdir -p "$marks"
fi
pip=("$venv/bin/python" -m pip install --disable-pip-version-check)

step torch 'PyTorch (a minute, more with a slow connection)' \
    "${pip[@]}" "torch==${TORCH:-2.13.0}" numpy==2.2.6
step build 'build tools' \
    "${pip[@]}" 'setuptools>=77' wheel ninja packaging psutil
if [ -n "${OPERATORS:-}" ]; then
    # no debug symbols and light optimisation build in three quarters of the time
    step operators 'mmcv, compiled from source: 10 to 15 minutes on 2 cores, once' \
        env CFLAGS='-g0 -O1' "${pip[@]}" --no-build-isolation --no-cache-dir \
        --force-reinstall --no-deps onedl-mmcv==2.3.6
elif [ ! -e "$marks/operators" ]; then
    # where its set-up does not find PyTorch, MMCV builds without operators;
    # mmdiffdet/ops.py stands in for those that are called
    step mmcv 'mmcv, without compiled operators' \
        "${pip[@]}" --no-cache-dir onedl-mmcv==2.3.6
fi
# again when what setup.py asks for has changed. 'compat' writes a path: with a hook,
# a script beside a clone named mmdiffdet would import the clone's folder
step "project-$(cksum <setup.py | cut -d' ' -f1)" 'MMDetection, Diffusers and mmdiffdet (2 minutes)' \
    "${pip[@]}" --no-build-isolation --config-settings editable_mode=compat -e '.[test,lint]'

#!/usr/bin/env bash
# What the suite does on this machine's GPU, in ten minutes at most, installing and downloads apart; ends with one JSON file for an issue.
#   tests/benchmarks/gpu_check.sh [--only PART...] [--patience FACTOR]
#   VENV=.venv-gpu     an environment of its own, made where it is not there
#   PYTHON=python3     the interpreter that makes it
#   OUT=gpu_check.json the file
#   DEVICE=cpu         tries the script itself, with tiny models, where there is no GPU; needs no environment: VENV=.venv
#   VLLM_PYTHON=       an interpreter that has vLLM, where VENV's has none
set -u
cd "$(dirname "$0")/../.." || exit 2
VENV=${VENV:-.venv-gpu} PYTHON=${PYTHON:-python3} DEVICE=${DEVICE:-cuda} OUT=${OUT:-gpu_check.json} LOGS=data/cache/gpu-check
status=0 began=$SECONDS
mkdir -p "$LOGS"
if [ "$DEVICE" = cuda ] && ! nvidia-smi >"$LOGS/nvidia-smi.log" 2>&1; then
    echo "error: nvidia-smi finds no GPU here ($(head -n 1 "$LOGS/nvidia-smi.log")); DEVICE=cpu VENV=.venv tries the script itself" >&2
    exit 2
fi
if [ ! -x "$VENV/bin/python" ] || { [ "$VENV" = .venv-gpu ] && [ ! -e "$VENV/.ready" ]; }; then
    echo "installing into $VENV: minutes, some 10 GB"
    # As docs/running_at_scale.md says: vLLM first, which brings its own torch; gguf and peft are for the policy that PyPI has, pytest for the ratios.
    # Without vLLM the other stages can still run.
    {
        "$PYTHON" -m venv "$VENV" && "$VENV/bin/python" -m pip install --quiet 'vllm>=0.32,<1'
        status=$?
        "$VENV/bin/python" -m pip install --quiet --editable '.[openai,gguf,peft]' pytest && [ $status = 0 ] && touch "$VENV/.ready"
    } >"$LOGS/install.log" 2>&1 || status=1
fi
run=$VENV/bin/python
[ -x "$run" ] || run=$PYTHON
exec "$run" tests/benchmarks/gpu_check.py --device "$DEVICE" --out "$OUT" --vllm-python "${VLLM_PYTHON:-$run}" \
    --installed "$status" --seconds "$((SECONDS - began))" "$@"

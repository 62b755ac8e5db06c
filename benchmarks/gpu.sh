#!/usr/bin/env bash
# Every figure that needs an accelerator, in less than nine minutes: benchmarks/gpu.sh [FOLDER]; JSON lines in FOLDER.
# QUICK=1 takes the smallest sizes, to try the script itself on a CPU.
set -uo pipefail
mkdir -p "${1:-$(dirname "$0")/results}" || exit 1
out=$(cd "${1:-$(dirname "$0")/results}" && pwd)
cd "$(dirname "$0")/.." || exit 1
run=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null; rm -rf "$run"' EXIT # what goes on in the background would hold the device
trap 'exit 130' INT
trap 'exit 143' TERM
case=walker2d antmaze=antmaze seeds="1 5 10" limit=95 repeats=20 updates=20000 chunk=200
if [ -n "${QUICK:-}" ]; then
  case=quick antmaze=quick seeds="1 2" repeats=2 updates=200 chunk=1
fi
failed=0

part() { # part NAME SECONDS COMMAND...: its output in NAME.jsonl, its complaints in NAME.err
  local name=$1 seconds=$2
  shift 2
  timeout "$seconds" "$@" >"$out/$name.jsonl" 2>"$out/$name.err" &
  if ! wait $!; then
    echo "$name failed or took more than $seconds s; see $out/$name.err" >&2
    failed=1
  fi
  echo "== $name"
  cat "$out/$name.jsonl"
}

command -v nvidia-smi >/dev/null && nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv | tee "$out/gpu.csv"
for dtype in float32 bfloat16; do
  part "step-$dtype" "$limit" python benchmarks/step.py --case "$case" "$antmaze" --dtype "$dtype" --repeats "$repeats"
done
part runtime 90 python benchmarks/runtime.py --out "$out/runtime" --sizes own --repeats 3 --updates "$chunk"
part scaling 140 python benchmarks/scaling.py --case "$case" --seeds $seeds --dtype float32 bfloat16

# One run as its user would start it, and how busy the device is meanwhile.
if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits --loop-ms=500 >"$out/busy.csv" &
fi
part run 110 python launch.py --config=configs/pointmass.py --workdir="$run" --config.pretrain_steps="$updates" \
  --config.train_steps="$updates" --config.log_every=1000 --config.evaluate_every=5000
exit $failed

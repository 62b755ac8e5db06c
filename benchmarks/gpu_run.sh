#!/usr/bin/env bash
# Trains one run at full size for so many minutes, saves it, scores what there is; called again, it goes on:
#   benchmarks/gpu_run.sh TASK MINUTES FOLDER [OPTION of launch.py]...
#   benchmarks/gpu_run.sh halfcheetah-medium-v2,paper 25 full/printed --config.dataset_path=halfcheetah_medium-v2.hdf5
# TASK is the argument of configs/locomotion.py, or FILE:ARGUMENT for another config file, e.g. antmaze:antmaze-umaze-v0.
# Of algorithms with other policies than BDPO's, POLICIES="policy behavior" names those to score.
# MINUTES are of training, compilation included; scoring comes after them (EPISODES=20 of each policy, SCORE_SEED=1000).
# FOLDER/run is the run, FOLDER/figures what one keeps: settings, curves, scores, the share of time the device is busy.
set -uo pipefail
if [ $# -lt 3 ]; then
  sed -n '2,9s/^# \?//p' "$0" >&2
  exit 2
fi
case $1 in *:*) config=configs/${1%%:*}.py:${1#*:} ;; *) config=configs/locomotion.py:$1 ;; esac
minutes=$2
mkdir -p "$3" || exit 1
folder=$(cd "$3" && pwd)
shift 3
cd "$(dirname "$0")/.." || exit 1
figures=$folder/figures
mkdir -p "$figures"

sampler="" trainer="" stopped=""
trap '[ -n "$sampler" ] && kill "$sampler"' EXIT
trap 'stopped=1; [ -n "$trainer" ] && kill -TERM "$trainer"' INT TERM
if command -v nvidia-smi >/dev/null; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv >"$figures/gpu.csv"
  nvidia-smi --query-gpu=utilization.gpu,memory.used --format=csv,noheader,nounits --loop-ms=1000 >"$folder/busy.csv" &
  sampler=$!
fi
timeout --preserve-status --signal=TERM "${minutes}m" \
  python launch.py --config="$config" --workdir="$folder/run" "$@" > >(trap "" INT TERM && exec tee -a "$folder/log.txt") 2>&1 &
trainer=$!
wait "$trainer"
code=$?
while kill -0 "$trainer" 2>/dev/null; do # a signal has ended the waiting, not the run, which saves
  wait "$trainer"
  code=$?
done
trainer=""
[ -n "$sampler" ] && kill "$sampler" && sampler=""
if [ -n "$stopped" ]; then
  echo "Stopped; the same command goes on." >&2
  exit "$code"
fi
if [ "$code" -ne 0 ] && [ "$code" -ne 143 ]; then # 143: saved because the time was over
  echo "Training failed with status $code; see $folder/log.txt." >&2
  exit "$code"
fi
if [ -s "$folder/busy.csv" ]; then
  awk -F, '{ busy += $1; if ($2 > most) most = $2 } END { printf "busy %.0f%%, at most %d MiB\n", busy / NR, most }' \
    "$folder/busy.csv" | tee "$figures/busy.txt"
fi
rm -f "$figures/results.json"
[ "$code" -eq 143 ] || cp "$folder/run/results.json" "$figures/" # else of an earlier, shorter budget, if there is one
for name in config.json progress.csv scores.json curves.png; do
  [ -e "$folder/run/$name" ] && cp "$folder/run/$name" "$figures/"
done

policies=(policy behavior behavior_best_of)
[ -n "${POLICIES:-}" ] && read -ra policies <<<"$POLICIES"
failed=0
: >"$figures/final.txt"
for policy in "${policies[@]}"; do
  python -m bdpo_jax.score "$folder/run" --policy "$policy" --episodes "${EPISODES:-20}" --seed "${SCORE_SEED:-1000}" |
    tee -a "$figures/final.txt" || failed=1
done
exit $failed

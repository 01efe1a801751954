#!/usr/bin/env bash
# What is to be known of a card, in one command of about ten minutes that needs no network:
#   OUT=card experiments/card.sh
# Tests marked `card`, the bench, Pendulum and Flow trained with experiments/gpu.yaml side by side, and their
# tests. After each part OUT/parts.jsonl gets a line (its name, exit status and seconds) and OUT its results;
# 124 is the status of a part that ran into its limit. On a machine without a card, with the smallest settings:
#   SMALL=1 OUT=/tmp/card experiments/card.sh
set -u
cd "$(dirname "$0")/.."
OUT=$(realpath -m "${OUT:-runs/card}")
PYTHON=${PYTHON:-python3}
MINUTES=${MINUTES:-2}  # of each training
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" OMP_NUM_THREADS="${OMP_NUM_THREADS:-4}" WANDB_MODE=disabled

missing=$("$PYTHON" - <<'PY'
from importlib.util import find_spec
names = "torch lightning torchmetrics einops zuko jsonargparse docstring_parser typeshed_client rich sklearn safetensors"
print(" ".join(name for name in names.split() if find_spec(name) is None))
PY
)
if [ -n "$missing" ]; then
  echo "card.sh needs the packages $missing: install them, or name a PYTHON that has them." >&2
  exit 2
fi
if [ -e "$OUT/parts.jsonl" ]; then
  echo "card.sh: $OUT holds results already: name another OUT." >&2
  exit 2
fi
mkdir -p "$OUT"

if [ -n "${SMALL:-}" ]; then
  device=cpu
  slow=4  # times each limit
  cut=(--data.image_size 64 --data.batch_size 8 --data.train_size 64 --data.val_size 4 --data.test_size 4
       --model.generator.channels '[8,16]' --model.projector.channels 8
       --trainer.accelerator cpu --trainer.precision 32-true --trainer.max_steps 4
       --trainer.limit_val_batches 0 --trainer.val_check_interval 4)
  bench=(--repeats 1 --images 2 --steps 6 --batch_size 4)
  sections=(step sizes batch operations training)
else
  device=cuda
  slow=1
  cut=()
  bench=(--repeats 3 --images 1024 --compile true)
  sections=(step sizes batch operations formats training memory)
fi

# part NAME LIMIT COMMAND…: runs it under its own limit, and says how it ended.
part() {
  local name=$1 limit=$((slow * $2)) started status
  shift 2
  started=$(date +%s)
  timeout --kill-after=5 "$limit" "$@" > "$OUT/$name.log" 2>&1
  status=$?
  echo "{\"part\": \"$name\", \"status\": $status, \"seconds\": $(($(date +%s) - started)), \"limit\": $limit}" \
    | tee -a "$OUT/parts.jsonl"
  return $status
}

train_and_test() {
  local name=$1 config=(--config "experiments/$1.yaml" --config experiments/gpu.yaml)
  part "fit-$name" $((60 * MINUTES + 90)) "$PYTHON" -m diffcf fit "${config[@]}" "${cut[@]}" \
    --trainer.max_epochs -1 --trainer.callbacks+=diffcf.training.TrainingBudget \
    --trainer.callbacks.minutes "$MINUTES" --out "$OUT/$name" || return
  part "test-$name" 150 "$PYTHON" -m diffcf test "${config[@]}" "${cut[@]}" \
    --ckpt_path "$OUT/$name/last.ckpt" --out "$OUT/$name"
}

if [ "$device" = cuda ]; then
  part card 20 nvidia-smi
fi
if "$PYTHON" -c 'import pytest' 2> /dev/null; then
  part tests 120 "$PYTHON" -m pytest -q -p no:cacheprovider -m card tests/card
else
  echo '{"part": "tests", "status": "pytest is not installed"}' | tee -a "$OUT/parts.jsonl"
fi
only=()
for section in "${sections[@]}"; do only+=(--only "$section"); done
part bench 180 "$PYTHON" -m diffcf bench experiments/pendulum.yaml --device "$device" "${only[@]}" \
  "${bench[@]}" --out "$OUT/bench"
for name in pendulum flow; do train_and_test "$name" & done
if [ "$device" = cuda ]; then
  part quality $((60 * MINUTES + 150)) "$PYTHON" -m diffcf bench experiments/pendulum.yaml \
    --config experiments/gpu.yaml --only quality --minutes "$MINUTES" --out "$OUT/quality" &
fi
wait
rm -f "$OUT"/*/*.ckpt  # large, and of no use without a card's time
if grep -vq '"status": 0' "$OUT/parts.jsonl"; then
  echo "Not all parts ended well: see $OUT/parts.jsonl." >&2
  exit 1
fi

#!/usr/bin/env bash
# Classify the first 20 example tickets with a model on your own machine.
#
# usage: examples/local-server.sh [BASE_URL [MODEL]]
#
#   BASE_URL   an OpenAI-compatible server (default: http://127.0.0.1:8080/v1)
#                llama.cpp   http://127.0.0.1:8080/v1
#                Ollama      http://127.0.0.1:11434/v1
#                vLLM        http://127.0.0.1:8000/v1
#   MODEL      default: the first one that BASE_URL/models names, or else "default"
#
# The answers go to tickets.local.jsonl in the repository root. Run again, it asks only for what is
# missing there; to start over, or to try another model, move the tickets.local.* files away first.
set -euo pipefail

case ${1-} in
  -h | --help)
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"
    exit 0
    ;;
esac
if [ $# -gt 2 ]; then
  echo "usage: examples/local-server.sh [BASE_URL [MODEL]]" >&2
  exit 2
fi

base=${1:-http://127.0.0.1:8080/v1}
base=${base%/}
model=${2:-}
output=tickets.local.jsonl

# Every path below is relative to the repository root.
CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

if [ -z "$model" ]; then
  # One JSON key a line, then the value of the first "id". A server that cannot list its models
  # may still answer, so a failure here is not the end.
  listing=$(curl -fsS --max-time 10 "$base/models") || listing=
  model=$(printf '%s\n' "$listing" | tr '{,' '\n\n' |
    sed -n 's/^[[:space:]]*"id"[[:space:]]*:[[:space:]]*"\([^"]*\)".*/\1/p' | sed -n 1p)
  model=${model:-default}
fi

if command -v llmbatch >/dev/null; then
  llmbatch=(llmbatch)
else
  llmbatch=(cargo run --release --quiet --)
fi

arguments=(
  run examples/tickets.jsonl
  --prompt-file examples/classify.txt
  --base-url "$base"
  --model "$model"
  --max-tokens 8
  --temperature 0
  --limit 20
  --concurrency 4
  -o "$output"
)
# Results that exist are kept: go on where the last run ended.
if [ -e "$output" ]; then
  arguments+=(--resume)
fi

echo "asking $model at $base" >&2
status=0
"${llmbatch[@]}" "${arguments[@]}" || status=$?

# 0: every ticket has an answer; 3: some are in the errors file. Anything else was no complete run.
case $status in
  0 | 3) ;;
  *) exit "$status" ;;
esac

# How often each answer came. The ticket and the raw response, which follow "content", are cut off.
sed -nE 's/,"(metadata|response)":.*//; s/.*"content":"(([^"\\]|\\.)*)".*/\1/p' "$output" | sort | uniq -c | sort -rn

exit "$status"

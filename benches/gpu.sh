#!/usr/bin/env bash
# Parity, memory checks and speed of the kernels on the card at hand, and peers that are installed beside it. Takes a binary that was
# built elsewhere and nothing from the network:
#
#   cargo bench -p datafusion-ml-kernels --features cuda --bench gpu --no-run    # prints the binary's path
#   benches/gpu.sh path/of/the/binary [folder for the result] [commit]
#
# Writes gpu-<card>.md into the folder (benches/results).
set -euo pipefail
binary="${1:?the path of the gpu benchmark, see the head of this script}"
here="$(cd "$(dirname "$0")" && pwd)"
folder="${2:-$here/results}"
commit="${3:-$(git -C "$here" rev-parse --short HEAD 2> /dev/null || echo unknown)}"
mkdir -p "$folder"
card="$(nvidia-smi --query-gpu=name --format=csv,noheader | head -1)"
driver="$(nvidia-smi --query-gpu=driver_version --format=csv,noheader | head -1)"
out="$folder/gpu-$(echo "$card" | tr 'A-Z ' 'a-z-' | tr -cd 'a-z0-9-').md"
{
  echo "# The kernels on an $card"
  echo
  echo "Driver $driver, $(date -u +%Y-%m-%d), commit $commit. Made by \`benches/gpu.sh\`."
  echo
  echo "## Parity with the CPU"
  echo
} > "$out"
status=0
"$binary" parity 2>&1 | tee -a "$out" || status=1
{
  echo
  echo "## Memory checks"
  echo
} >> "$out"
if command -v compute-sanitizer > /dev/null; then
  for tool in memcheck racecheck initcheck synccheck; do
    if compute-sanitizer --tool "$tool" --error-exitcode 9 "$binary" parity small > "/tmp/sanitizer-$tool.log" 2>&1; then
      echo "- $tool: $(grep 'ERROR SUMMARY\|RACECHECK SUMMARY' "/tmp/sanitizer-$tool.log" | tail -1 | sed 's/=* *//')" >> "$out"
    else
      status=1
      { echo "- $tool: **failed**"; echo '```'; grep '=====' "/tmp/sanitizer-$tool.log" | head -40; echo '```'; } >> "$out"
    fi
  done
else
  echo "compute-sanitizer is not installed there." >> "$out"
fi
{
  echo
  echo "## Speed"
  echo
} >> "$out"
"$binary" speed 2>&1 | tee -a "$out" || status=1
{
  echo
  echo "## Peers on the same card"
  echo
} >> "$out"
python3 "$here/gpu_peers.py" 2>&1 | tee -a "$out" || echo "no Python there" >> "$out"
echo "wrote $out"
exit $status

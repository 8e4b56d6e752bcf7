#!/usr/bin/env bash
# Which part may include which (docs/design.md): an include that goes back or sideways fails.
set -euo pipefail
cd "$1"
status=0

# layer FOLDER ALLOWED...: quoted includes "part/..." in FOLDER name its own part or an allowed one
layer() {
    local folder=$1 allowed=" $* " line part
    allowed=${allowed//core\/src\//}
    while IFS= read -r line; do
        part=${line#*\"}
        part=${part%%/*}
        if [[ $allowed != *" $part "* ]]; then
            echo "$line: $folder must not use $part"
            status=1
        fi
    done < <(grep -rnE '^#include "[a-z]+/' "$folder" --include='*.[ch]' || true)
}

layer core/src/base
layer core/src/plugin base
layer core/src/data base
layer core/src/ckpt base
layer core/src/graph base plugin
layer core/src/train base plugin graph data ckpt

# Plugins and programs reach the core through its public headers alone.
for folder in backends/cpu backends/opencl plugins datasets tools/stnrun; do
    if grep -rnE '^#include "(base|plugin|graph|data|ckpt|train)/' "$folder" --include='*.[ch]'; then
        echo "$folder must include <stn/...> only"
        status=1
    fi
done
exit "$status"

# Shared by the tests of the command line. Sourced as: . "$(dirname "$0")/lib.sh"
# $1 = stnrun, $2 = source folder. Gives a temporary folder (the working directory), small data in
# MNIST's format, and checks that count failures; `finish` ends the test.
set -u
stnrun=$1
source_dir=$2
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work" || exit 1
failures=0

# Nothing of the user's own settings, and no shared state between tests.
unset STN_RECIPE STN_BACKEND STN_DEVICE STN_THREADS STN_PLUGIN_PATH STN_OUT NO_COLOR FORCE_COLOR CLICOLOR_FORCE
export HOME=$work/home XDG_CONFIG_HOME=$work/config XDG_DATA_HOME=$work/share
mkdir -p "$HOME" "$XDG_CONFIG_HOME/stn" "$XDG_DATA_HOME"
long=${STN_TEST_LONG:-0}

bad() {
    echo "FAILED: $*"
    failures=$((failures + 1))
}

# expect STATUS COMMAND...: runs it, output in the files out and err
expect() {
    local want=$1 got=0
    shift
    "$@" >out 2>err || got=$?
    if [ "$got" != "$want" ]; then
        bad "status $got instead of $want: $*"
        head -n 20 out err
    fi
}

# says FILE TEXT: the file contains the text
says() {
    if ! grep -qF -- "$2" "$1"; then
        bad "no '$2' in $1 of the last command:"
        head -n 20 "$1"
    fi
}

# One line on stderr, as every error gives
one_line() {
    [ "$(wc -l <err)" = 1 ] || { bad "not one line of error" && cat err; }
}

hash_of() {
    sed -n 's/^state hash //p' "$1"
}

# be32 N: four bytes, big-endian
be32() {
    # shellcheck disable=SC2059
    printf "$(printf '\\%03o\\%03o\\%03o\\%03o' $(($1 >> 24 & 255)) $(($1 >> 16 & 255)) $(($1 >> 8 & 255)) $(($1 & 255)))"
}

# noise N SEED: N bytes 1..255 from a fixed generator
noise() {
    LC_ALL=C awk -v n="$1" -v s="$2" 'BEGIN { x = s + 1; for (i = 0; i < n; i++) {
        x = (x * 1103515 + 12345) % 2147483648; printf "%c", 1 + int(x / 65536) % 255 } }'
}

# labels N: N bytes 0..9 in turn
labels() {
    LC_ALL=C awk -v n="$1" 'BEGIN { for (i = 0; i < n; i++) printf "\\%03o", i % 10 }' >labels.txt
    # shellcheck disable=SC2059
    printf "$(cat labels.txt)"
    rm labels.txt
}

# images FOLDER PREFIX COUNT: a pair of IDX files
idx_pair() {
    {
        be32 2051 && be32 "$3" && be32 28 && be32 28 && noise $((784 * $3)) "$3"
    } >"$1/$2-images-idx3-ubyte"
    {
        be32 2049 && be32 "$3" && labels "$3"
    } >"$1/$2-labels-idx1-ubyte"
}

# small_data FOLDER: FOLDER/mnist with 256 training and 64 test images of noise
small_data() {
    mkdir -p "$1/mnist"
    idx_pair "$1/mnist" train 256
    idx_pair "$1/mnist" t10k 64
}

# The smallest run: flags for train and compare
small="--recipe mnist-r-sl1 --data-dir $work/data --batch 16 --eval-passes 1 --save-every 2 --width 0.1"

finish() {
    if [ "$failures" != 0 ]; then
        echo "$failures failures"
        exit 1
    fi
    exit 0
}

# Every ```sh block of README.md runs as it stands, in one folder, in order, against this build.
. "$(dirname "$0")/lib.sh"
PATH=$(dirname "$stnrun"):$PATH
export PATH
if [ -z "${STN_DATA_DIR:-}" ]; then
    small_data data
    export STN_DATA_DIR=$work/data
fi
awk '/^```sh$/ { on = 1; next } /^```$/ { on = 0 } on' "$source_dir/README.md" >blocks.sh
[ "$(wc -l <blocks.sh)" -ge 5 ] || bad "README.md has hardly any command"
if ! bash -eux blocks.sh; then
    bad "a command of README.md fails"
fi
finish

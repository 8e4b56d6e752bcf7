# tools/bench-torch, bench-scale and plot-scale: the form of their tables, and clear refusals. PyTorch is
# played by a script that prints fixed figures.
. "$(dirname "$0")/lib.sh"
small_data data
export STN_DATA_DIR=$work/data
unset STN_TORCH_PYTHON STN_TORCH_BENCH

# tools/bench-torch: refusals
expect 2 "$source_dir/tools/bench-torch" --stnrun "$stnrun"
says err "STN_TORCH_PYTHON"
one_line
expect 2 "$source_dir/tools/bench-torch" --nonsense
expect 0 "$source_dir/tools/bench-torch" --help
says out "usage:"

# medians of paired ratios: stn prints 10 and 20 ms in turn, PyTorch 40 ms
cat >fake_python <<'SH'
#!/bin/sh
echo "$*" >>"$FAKE_LOG"
echo '{"mode": "step", "ms_min": 30.0, "ms_median": 40.0, "images_per_s": 1.0, "peak_rss_mib": 800}'
SH
cat >fake_stnrun <<'SH'
#!/bin/sh
echo x >>"$FAKE_LOG.stn"
ms=$(($(wc -l <"$FAKE_LOG.stn") % 2 * 10 + 10))
echo "{\"schema\":\"stnrun-bench/1\",\"ms_min\":$ms.0,\"ms_median\":$ms.0,\"images_per_s\":1.0,\"peak_rss_mib\":80.25}"
SH
chmod +x fake_python fake_stnrun
: >bench_torch.py
export FAKE_LOG=$work/calls
expect 0 "$source_dir/tools/bench-torch" --python "$work/fake_python" --script "$work/bench_torch.py" \
    --stnrun "$work/fake_stnrun" --rounds 3 mnist-r-sl1
says out "| mnist-r-sl1 | 20.0 / 20.0 | 40.0 / 30.0 | 2.00 | 1.50 | 80 | 800 |"
[ "$(wc -l <out)" = 3 ] || bad "not a table of one network"
says calls "--net mnist_r_sl1 --batch 256 --threads 2 --channels-last"
expect 1 env STN_TORCH_PYTHON=/bin/true STN_TORCH_BENCH="$work/bench_torch.py" "$source_dir/tools/bench-torch" \
    --stnrun "$work/fake_stnrun" --rounds 1 mnist-r-cnn
says err "gave no figures"

# tools/bench-scale
expect 0 "$source_dir/tools/bench-scale" --stnrun "$stnrun" --repeats 1 --batches 4,8 --sides 32 --networks cnn --threads 1
[ "$(head -n 1 out)" = "variable,threads,network,batch,side,ms_min,ms_median,us_per_image,ns_per_pixel,peak_rss_mib" ] ||
    bad "another head of the table"
[ "$(wc -l <out)" = 5 ] || { bad "not four points" && cat out err; }
grep -qE '^batch,1,sl1,8,28(,[0-9]+\.?[0-9]*){5}$' out || { bad "no point of a batch" && cat out; }
grep -qE '^side,1,sl1,16,32,' out || bad "no point of a side"
grep -qE '^network,1,cnn,256,28,' out || bad "no point of a network"
cp out scale.csv
expect 0 "$source_dir/tools/plot-scale" scale.csv
says out "<svg"
says out "cnn"
expect 2 "$source_dir/tools/plot-scale" no/such
one_line
expect 2 "$source_dir/tools/bench-scale" --stnrun no/such
one_line
finish

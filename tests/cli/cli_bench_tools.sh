# tools/bench-torch, bench-targets, bench-cuda, bench-scale and plot-scale: the form of their tables,
# and clear refusals. PyTorch is played by a script that prints fixed figures.
. "$(dirname "$0")/lib.sh"
small_data data
export STN_DATA_DIR=$work/data
unset STN_TORCH_PYTHON STN_TORCH_BENCH

# bench step --vs-torch: refusals
# shellcheck disable=SC2086
versus() {
    "$stnrun" bench step --vs-torch $small --warmup 1 --repeats 2 "$@"
}
expect 2 versus
says err "STN_TORCH_BENCH"
one_line
: >bench_torch.py
export STN_TORCH_BENCH=$work/bench_torch.py
expect 1 env STN_TORCH_PYTHON=no/such "$stnrun" bench step --vs-torch --recipe mnist-r-cnn --batch 8 -q
says err "cannot run no/such"
one_line
expect 1 env STN_TORCH_PYTHON=/bin/true "$stnrun" bench step --vs-torch --recipe mnist-r-cnn --batch 8 -q
says err "gave no figures"
one_line
expect 1 env STN_TORCH_PYTHON=/bin/false "$stnrun" bench step --vs-torch --recipe mnist-r-cnn --batch 8 -q
says err "gave no figures"

# PyTorch's side runs once a round, on the same batch and threads as here, and keeps its memory
cat >fake_python <<'SH'
#!/bin/sh
echo "$OMP_NUM_THREADS $MALLOC_MMAP_MAX_ $*" >>"$FAKE_LOG"
echo '{"mode": "step", "ms_min": 30000.0, "ms_median": 40000.0, "images_per_s": 1.0, "peak_rss_mib": 800}'
SH
chmod +x fake_python
export FAKE_LOG=$work/calls STN_TORCH_PYTHON=$work/fake_python
expect 0 versus --rounds 3 --threads 2
says out "PyTorch    30000.00   40000.00"
says out "PyTorch / stn, median of 3 rounds: "
says out "after 9 steps"
[ "$(wc -l <calls)" = 3 ] || bad "not one run a round"
says calls "2 0 $work/bench_torch.py step --net mnist_r_sl1 --batch 16 --threads 2 "
expect 0 versus --rounds 1 --json
for member in rounds ratio_median ratio_min stn torch state_hash; do
    says out "\"$member\":"
done
says out '"ms_median": 40000.0'

# tools/bench-torch: a table of it
expect 2 "$source_dir/tools/bench-torch" --nonsense
expect 2 "$source_dir/tools/bench-torch" --stnrun no/such
one_line
expect 0 "$source_dir/tools/bench-torch" --help
says out "usage:"
expect 0 "$source_dir/tools/bench-torch" --stnrun "$stnrun" --rounds 1 --repeats 1 mnist-r-cnn
[ "$(wc -l <out)" = 3 ] || bad "not a table of one network"
grep -qE '^\| mnist-r-cnn \| [0-9.]+ / [0-9.]+ \| 40000.0 / 30000.0 \| [0-9.]+ \| [0-9.]+ \| [0-9]+ \| 800 \|$' out ||
    { bad "no row of figures" && cat out; }

# tools/bench-targets: figures beside their targets; what fails is named, and the other groups are measured
targets() {
    "$source_dir/tools/bench-targets" --stnrun "$stnrun" --quick --networks mnist-r-cnn "$@"
}
expect 2 targets --nonsense
one_line
expect 2 targets nonsense
one_line
expect 2 "$source_dir/tools/bench-targets" --stnrun no/such
one_line
expect 0 "$source_dir/tools/bench-targets" --help
says out "usage:"
expect 0 targets data
grep -qE '^\| mnist-r-cnn, % of the rate in memory \| [0-9.]+ \| at least 95\.0 \| (yes|no) \|$' out || { bad "no rate" && cat out; }
mkdir programs
cat >programs/bench_conv <<'SH'
#!/bin/sh
[ "$1" = layers ] || exit 7
case $5 in
f) printf 'GFLOP/s   forward      peak      %%    GB/s %% written\nsvhn 1   106.2   116.6   84.9   20.0   3.1\nplankton 1   98.5   116.8   84.0   27.2   99.6\n' ;;
*) printf 'GFLOP/s   grad %s  %s dense\nsvhn 1   121.5   1.62x\nplankton 1   27.4\n' "$5" "$5" ;;
esac
SH
# figures as bench gives them, whatever it measures
cat >programs/stnrun <<'SH'
#!/bin/sh
case "$*" in
*compare*1,2*) sides='{"ratio_to_first":0.5,"ms_min":5}' ;;
*compare*avx2*) sides='{"ratio_to_first":0.9,"ms_min":8},{"ratio_to_first":3.5,"ms_min":29}' ;;
*compare*) sides='{"ratio_to_first":1.04,"ms_min":11}' ;;
*step*vs-torch*) echo '{"ratio_median":2.3,"ratio_min":2.25,"stn":{"peak_rss_mib":90},"torch":{"peak_rss_mib":900}}' ;;
*step*) echo '{"peak_rss_mib":180,"ms_min":0,"launches":36}' ;;
*ops*) printf '{"peak_gflops_per_s":100}\n{"operator":"conv"}\n' ;;
*epoch*) echo '{"ratio":0.949}' ;;
esac
[ -z "${sides-}" ] || echo "{\"sides\":[{\"ratio_to_first\":1,\"ms_min\":10},$sides]}"
SH
chmod +x programs/*
expect 1 "$source_dir/tools/bench-targets" --stnrun programs/stnrun --networks mnist-r-cnn
sed -i '/ start, s /s/| [0-9.]* |/| 0.0 |/' out
cat >wanted <<'TXT'
| what | figure | target | holds |
|---|---|---|---|
| mnist-r-cnn, PyTorch / stn | 2.30 (2.25) | at least 2.20 | yes |
| mnist-r-cnn, memory of stn / PyTorch | 0.10 | at most 0.50 | yes |
| mnist-r-cnn, memory of stn on OpenCL / PyTorch | 0.20 | at most 0.50 | yes |
| mnist-r-cnn, OpenCL / cpu | 1.04 (1.10) | at most 1.10 | yes |
| mnist-r-cnn, one thread / two | 2.00 (2.00) | at least 1.85 | yes |
| mnist-r-sl1, one thread / two | 2.00 (2.00) | at least 1.85 | yes |
| svhn 1, % of the peak | 84.9 (3.1) | at least 85.0 | no |
| plankton 1, % of the peak | 84.0 (99.6) | at least 85.0 | no |
| svhn 1, input gradient, times the dense rate | 1.62 | at least 1.50 | yes |
| svhn 1, weight gradient, times the dense rate | 1.62 | at least 1.50 | yes |
| mnist-r-cnn, share of its peak, AVX2 / AVX-512 | 0.90 (0.80) | at least 0.85 | yes |
| mnist-r-cnn, time, portable / AVX2 | 3.50 (2.90) | at most 3.00 | no |
| mnist-r-sl1, share of its peak, AVX2 / AVX-512 | 0.90 (0.80) | at least 0.85 | yes |
| mnist-r-sl1, time, portable / AVX2 | 3.50 (2.90) | at most 3.00 | no |
| mnist-r-cnn, % of the rate in memory | 94.9 | at least 95.0 | no |
| mnist-r-cnn, first start, s | 0.0 | at most 10.0 | yes |
| mnist-r-cnn, second start, s | 0.0 | at most 1.0 | yes |
| mnist-r-sl1, launches a step | 36 | at most 40 | yes |

13 of 18 hold; not measured: shapes
TXT
cmp -s out wanted || { bad "another table" && diff out wanted; }
says err "bench-targets: shapes: bench_conv sweep 16: status 7: no message"
one_line
rm programs/bench_conv
expect 1 "$source_dir/tools/bench-targets" --stnrun programs/stnrun layers
says err "bench-targets: layers: programs/bench_conv: No such file or directory"
one_line

# tools/bench-cuda: refusals only, as it needs a device of its own
expect 2 "$source_dir/tools/bench-cuda" --script no/such
one_line

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

# Where a setting came from: default < user file < recipe < environment < flag.
. "$(dirname "$0")/lib.sh"

origin() {
    sed -n "s/^$1 *= *\([^ ]*\) *# \(.*\)/\1 \2/p" out
}

echo "seed = 7" >"$XDG_CONFIG_HOME/stn/stn.conf"
expect 0 "$stnrun" train --recipe mnist-r-sl1 --print-config
case $(origin momentum) in "0 default") ;; *) bad "momentum: $(origin momentum)" ;; esac
case $(origin network) in "sl1 recipe "*) ;; *) bad "network: $(origin network)" ;; esac
case $(origin seed) in "7 "*stn.conf*) ;; *) bad "seed: $(origin seed)" ;; esac
expect 0 env STN_SEED=8 STN_BATCH=64 "$stnrun" train --recipe mnist-r-sl1 --print-config
case $(origin seed) in "8 STN_SEED"*) ;; *) bad "seed: $(origin seed)" ;; esac
case $(origin batch) in "64 STN_BATCH"*) ;; *) bad "batch: $(origin batch)" ;; esac
expect 0 env STN_SEED=8 "$stnrun" train --seed 9 --recipe=mnist-r-sl1 --print-config
case $(origin seed) in "9 --seed"*) ;; *) bad "seed: $(origin seed)" ;; esac
expect 0 "$stnrun" train --recipe mnist-r-sl1 --dataset.distortion scale --print-config
case $(origin dataset.distortion) in "scale --dataset.distortion"*) ;; *) bad "dotted key: $(origin dataset.distortion)" ;; esac
expect 0 env STN_RECIPE=mnist-t-c0 "$stnrun" train --print-config
case $(origin network) in "c0 recipe "*) ;; *) bad "STN_RECIPE: $(origin network)" ;; esac
expect 0 "$stnrun" train --recipe mnist-r-sl1 --print-config --json
says out '"from"'

# every shipped recipe is complete
for recipe in $("$stnrun" recipes); do
    expect 0 "$stnrun" train --recipe "$recipe" --print-config
    expect 0 "$stnrun" recipes "$recipe"
    says out "network = "
done

# a recipe file; mistakes in it name the file and the line
"$stnrun" recipes mnist-r-sl1 >my.recipe
expect 0 "$stnrun" train --recipe ./my.recipe --print-config
echo "bacth = 3" >>my.recipe
expect 2 "$stnrun" train --recipe ./my.recipe --print-config
says err "my.recipe"
says err "batch"
one_line
expect 2 "$stnrun" train --recipe ./absent.recipe --print-config
says err "absent.recipe"
one_line

# the variables that env lists are those that exist
expect 0 "$stnrun" env
says out "STN_DATA_DIR"
says out "STN_LR_STEPS"
finish

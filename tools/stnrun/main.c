/* stnrun: trains, tests and compares spatial transformer networks. This file: the table of commands
 * and their dispatch. */
#include <stdio.h>
#include <string.h>

#include "stnrun.h"

static const flag train_flags[] = {
    {"recipe", 'r', "NAME|FILE", "settings to start from (stnrun recipes)"},
    {"out", 'o', "DIR",
     "run directory: checkpoints, metrics, recipe; without it nothing is written"},
    {"resume", 0, NULL, "go on with the run in --out"},
    {"print-config", 0, NULL, "print every setting with its origin and stop"},
    {"override-selftest", 0, NULL, "use a device that failed its self-test (recorded)"},
    {"until", 0, "STEP", "stop (and save) after this step"},
    {NULL, 0, NULL, NULL},
};

static const flag eval_flags[] = {
    FLAG_CHECKPOINT,
    {"split", 0, "test|train", "which part of the data (test)"},
    {"override-selftest", 0, NULL, "use a device that failed its self-test"},
    {NULL, 0, NULL, NULL},
};

static const flag compare_flags[] = {
    {"recipe", 'r', "NAME|FILE", "settings to start from"},
    {"steps", 'n', "N", "training steps to compare (10)"},
    FLAGS_SIDES,
    {"override-selftest", 0, NULL, "use devices that failed their self-test"},
    {NULL, 0, NULL, NULL},
};

static const flag bench_flags[] = {
    {"recipe", 'r', "NAME|FILE", "settings to start from"},
    {"warmup", 0, "N", "steps before the clock starts (3)"},
    {"repeats", 0, "N", "steps timed (30); epoch: pairs of blocks (5)"},
    {"block", 0, "N", "steps of a block (epoch 64, compare 1)"},
    {"model", 0, "", "ops, without a value: what each kernel does, by its launch; nothing is run"},
    {"peak-gflops", 0, "N", "ops --model: arithmetic of the device the bounds are for (10000)"},
    {"peak-gbytes", 0, "N", "ops --model: its memory bandwidth (500)"},
    {"trace", 0, "FILE", "step: write a timeline of one more step (Chrome, Perfetto)"},
    {"force", 'f', NULL, "overwrite an existing trace"},
    {"vs-torch", 0, NULL, "step: PyTorch's steps in turn with them (STN_TORCH_BENCH)"},
    {"rounds", 0, "N", "step --vs-torch: measurements of each (5)"},
    FLAGS_SIDES,
    {"override-selftest", 0, NULL, "use a device that failed its self-test"},
    {NULL, 0, NULL, NULL},
};

static const flag check_flags[] = {
    {"summary", 0, NULL, "one line a file, and the tensors that are beyond their tolerance"},
    {NULL, 0, NULL, NULL},
};

static const flag ckpt_flags[] = {
    {"force", 'f', NULL, "overwrite an existing output file"},
    {"like", 0, "CHECKPOINT", "import: the checkpoint whose settings the parameters belong to"},
    {NULL, 0, NULL, NULL},
};

static const flag picture_flags[] = {
    FLAG_CHECKPOINT,
    {"out", 'o', "FILE", "PNG file to write"},
    {"count", 'n', "N", "number of images (12)"},
    {"force", 'f', NULL, "overwrite an existing file"},
    {NULL, 0, NULL, NULL},
};

const command commands[] = {
    {"train", "train a network", "[flags] [--SETTING VALUE ...]",
     "stnrun train --recipe mnist-r-sl1 --out runs/sl1\n"
     "stnrun train --recipe mnist-r-sl1 --backend opencl --steps 200\n"
     "stnrun train --out runs/sl1 --resume --backend opencl\n"
     "stnrun train --recipe mnist-r-c0 --lr 0.02 --print-config\n",
     train_flags, true, cmd_train},
    {"eval", "test a checkpoint", "--checkpoint FILE|DIR [flags]",
     "stnrun eval --checkpoint runs/sl1\n"
     "stnrun eval --checkpoint runs/sl1/ckpt-2000.stn --eval-passes 10 --json\n",
     eval_flags, true, cmd_eval},
    {"compare", "train on several devices side by side and find the first difference",
     "--recipe NAME --backends LIST [flags]",
     "stnrun compare --recipe mnist-r-sl1 --backends cpu,opencl --steps 10\n"
     "stnrun compare --recipe mnist-r-c1 --threads 1,2,7\n"
     "stnrun compare --recipe mnist-r-cnn --cpu-kernels ref,avx2 --batch 32 --steps 5\n",
     compare_flags, true, cmd_compare},
    {"bench", "time training steps and their operators",
     "step|ops|epoch|compare --recipe NAME [flags]",
     "stnrun bench step --recipe mnist-r-sl1 --threads 2\n"
     "stnrun bench step --recipe mnist-r-cnn --backend opencl --trace step.json --json\n"
     "stnrun bench step --recipe mnist-r-cnn --vs-torch\n"
     "stnrun bench ops --recipe mnist-r-cnn\n"
     "stnrun bench epoch --recipe mnist-t-sl1\n"
     "stnrun bench compare --recipe mnist-r-sl1 --backends cpu,opencl\n"
     "stnrun bench compare --recipe mnist-r-sl1 --threads 1,2\n",
     bench_flags, true, cmd_bench},
    {"devices", "list devices", "[-v] [--json]", "stnrun devices\nstnrun devices -v --json\n", NULL,
     false, cmd_devices},
    {"plugins", "list plugins, with those refused and why", "[-v] [NAME ...]",
     "stnrun plugins\nstnrun plugins -v mnist\n", NULL, false, cmd_plugins},
    {"ops", "operators, and which backend supports them on this machine", "[--json]",
     "stnrun ops\n", NULL, false, cmd_ops},
    {"models", "list models and their networks", "[--json]", "stnrun models\n", NULL, false,
     cmd_models},
    {"datasets", "list datasets and where their files were found", "[--data-dir DIR]",
     "stnrun datasets\nstnrun datasets --data-dir ~/data\n", NULL, true, cmd_datasets},
    {"recipes", "list recipes", "[NAME]", "stnrun recipes\nstnrun recipes mnist-r-sl1\n", NULL,
     false, cmd_recipes},
    {"selftest", "prove that a device computes the contract's bits", "[--backend B] [--device D]",
     "stnrun selftest\nstnrun selftest --backend opencl -v\n", NULL, true, cmd_selftest},
    {"check", "compare with golden files of another framework", "[flags] FILE ...",
     "stnrun check goldens/op_*.safetensors goldens/net_mnist_*.safetensors\n"
     "stnrun check --backend opencl --summary goldens/op_conv2d.safetensors\n",
     check_flags, true, cmd_check},
    {"ckpt", "look into checkpoints and convert them", "show|verify|diff|export|import FILE ...",
     "stnrun ckpt show runs/sl1\n"
     "stnrun ckpt verify runs/sl1/ckpt-2000.stn\n"
     "stnrun ckpt diff a.stn b.stn\n"
     "stnrun ckpt export runs/sl1 sl1.safetensors\n"
     "stnrun ckpt import --like runs/sl1 sl1.safetensors new.stn\n",
     ckpt_flags, false, cmd_ckpt},
    {"picture", "draw test images before and after the learned transform",
     "--checkpoint FILE|DIR --out FILE.png", "stnrun picture --checkpoint runs/sl1 --out sl1.png\n",
     picture_flags, true, cmd_picture},
    {"env", "list environment variables and settings", "[--json]", "stnrun env\n", NULL, false,
     cmd_env},
    {"version", "version and contract", "[--json]", "stnrun version\n", NULL, false, cmd_version},
    {"help", "this text, or the help of a command", "[COMMAND]", "stnrun help train\n", NULL, false,
     cmd_help},
    {NULL, NULL, NULL, NULL, NULL, false, NULL},
};

static void print_overview(FILE *stream) {
    fputs("examples:\n"
          "  stnrun train --recipe mnist-r-sl1 --out runs/sl1     train, with checkpoints\n"
          "  stnrun eval --checkpoint runs/sl1                    test error\n"
          "  stnrun compare --recipe mnist-r-sl1 --backends cpu,opencl\n"
          "\nusage: stnrun COMMAND [flags]\n\ncommands:\n",
          stream);
    for (const command *c = commands; c->name != NULL; c++) {
        fprintf(stream, "  %-10s %s\n", c->name, c->summary);
    }
    fputs("\nstnrun COMMAND --help explains a command.\n", stream);
}

static const command *find_command(const char *name) {
    for (const command *c = commands; c->name != NULL; c++) {
        if (strcmp(c->name, name) == 0) {
            return c;
        }
    }
    const char *known[32];
    uint32_t n = 0;
    for (const command *c = commands; c->name != NULL && n < 32; c++) {
        known[n++] = c->name;
    }
    const char *guess = stn_suggest(name, known, n);
    fprintf(stderr, "stnrun: unknown command '%s'%s%s; see stnrun --help\n", name,
            guess == NULL ? "" : ", did you mean ", guess == NULL ? "" : guess);
    return NULL;
}

int cmd_help(args *a) {
    if (a->n_positional == 0) {
        print_overview(stdout);
        return EXIT_OK;
    }
    const command *c = find_command(a->positional[0]);
    if (c == NULL) {
        return EXIT_USAGE;
    }
    print_help(c);
    return EXIT_OK;
}

int main(int argc, char **argv) {
    if (argc < 2) {
        print_overview(stderr);
        return EXIT_USAGE;
    }
    const char *name = argv[1];
    if (strcmp(name, "-h") == 0 || strcmp(name, "--help") == 0) {
        name = "help";
    } else if (strcmp(name, "--version") == 0) {
        name = "version";
    }
    const command *c = find_command(name);
    if (c == NULL) {
        return EXIT_USAGE;
    }
    args a;
    int status = args_parse(&a, c, argc - 2, argv + 2);
    if (status != EXIT_OK) {
        return status;
    }
    if (args_has(&a, "help")) {
        print_help(c);
        return finish_output(EXIT_OK);
    }
    if (!output_setup(&a)) {
        return EXIT_USAGE;
    }
    return finish_output(c->run(&a));
}

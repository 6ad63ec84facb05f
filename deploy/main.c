/* The one binary: finds the subcommand, prepares the process, hands over. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "deploy/cli.h"
#include "proto/proto.h"

static const cli_command commands[] = {
    {"run", "CONFIG [--run DIR] [--json] [--set key=value]…",
     "train: start every role here, supervise, sum up", cmd_run},
    {"coordinator", "CONFIG [--run DIR] [--set key=value]…",
     "one role: plans, leases, weights, run store, stats", cmd_coordinator},
    {"learner", "CONFIG [--run DIR] [--set key=value]…", "one role: trains on batches",
     cmd_learner},
    {"actor", "CONFIG [--run DIR] [--name NAME] [--set key=value]…", "one role: samples and grades",
     cmd_actor},
    {"debate", "CONFIG [--run DIR] [--name NAME] [--set key=value]…",
     "one role: takes turns of debates", cmd_debate},
    {"sft", "CONFIG [--run DIR] [--set key=value]…",
     "supervised fine-tuning, also from random weights", cmd_sft},
    {"eval", "MODEL --task T | --data F [--k K] [--limit N] [--json]",
     "accuracy, pass@k, majority@k; debates; two models compared", cmd_eval},
    {"correct", "MODEL --task T | --data F [--level l1|l2|l3] [--safeguard]",
     "verify answers, localize the first mistake, resample from it", cmd_correct},
    {"generate", "MODEL [--prompt TEXT] […]", "sample text, or a JSONL filter", cmd_generate},
    {"tokenize", "MODEL", "JSONL filter: text ↔ ids, messages → both", cmd_tokenize},
    {"score", "MODEL [--temperature T]", "JSONL filter: log-probs of ids", cmd_score},
    {"grade", "[--grader G]", "JSONL filter: response and gold → grade", cmd_grade},
    {"verify", "MODEL REFERENCE.safetensors [--dtype f32|bf16]",
     "compare with reference logits and gradients", cmd_verify},
    {"export", "RUN|CHECKPOINT --to DIR [--merge]", "write a Hugging Face or PEFT folder", cmd_export},
    {"audit", "RUN --step N --to FILE", "train one step again and write all of it down", cmd_audit},
    {"show", "RUN [steps | tasks | debate ID | reset ID | …]", "read the run store",
     cmd_show},
    {"stats", "ENDPOINT|RUN [--json] [--watch]", "ask a running coordinator", cmd_stats},
    {"config", "--defaults | --docs | --check FILE", "the configuration schema", cmd_config},
    {"bench", "[MODEL] [--json]", "tokens per second, and shares of this machine's roof",
     cmd_bench},
};

static void print_help(FILE *out)
{
    fprintf(out,
            "retake %s: post-train language models on problems with checkable answers\n\n"
            "usage: retake COMMAND …   (retake COMMAND --help says more)\n\n",
            RT_VERSION);
    for (size_t i = 0; i < RT_COUNT(commands); i++)
        fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].about);
    fprintf(out, "\nfirst run: retake run deploy/configs/quickstart.yaml\n");
}

/* OpenMP reads its wait policy before main. Spinning teams slow down every process on shared
 * cores, so the process starts itself once more with waiting by sleep. */
static void wait_passively(char **argv)
{
    if (getenv("OMP_WAIT_POLICY"))
        return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv);
}

int main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "help") == 0 || strcmp(argv[1], "--help") == 0 ||
        strcmp(argv[1], "-h") == 0) {
        print_help(argc < 2 ? stderr : stdout);
        return argc < 2 ? 2 : 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("retake %s\n", RT_VERSION);
        return 0;
    }
    wait_passively(argv);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN); /* a file too large is an error with a sentence, like a full disk */
    /* A role must not outlive the supervisor that would restart it. */
    const char *supervisor = getenv("RETAKE_SUPERVISOR");
    if (supervisor) {
        prctl(PR_SET_PDEATHSIG, SIGTERM);
        if (getppid() != (pid_t)strtol(supervisor, NULL, 10))
            return 1;
    }
    for (size_t i = 0; i < RT_COUNT(commands); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    const char *nearest = commands[0].name;
    for (size_t i = 1; i < RT_COUNT(commands); i++)
        if (rt_edit_distance(argv[1], commands[i].name) < rt_edit_distance(argv[1], nearest))
            nearest = commands[i].name;
    fprintf(stderr, "retake: no command \"%s\"; did you mean \"%s\"? (retake help lists them)\n",
            argv[1], nearest);
    return 2;
}

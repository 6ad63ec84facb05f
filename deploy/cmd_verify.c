/* verify: logits, loss and gradients against a reference file. */
#include <string.h>

#include "deploy/cli.h"

int cmd_verify(int argc, char **argv)
{
    const char *words[2], *dtype = "f32", *device = "cpu";
    int64_t threads = 0;
    int count;
    const cli_option options[] = {
        {"--dtype", OPTION_TEXT, &dtype, "f32|bf16", "weights in memory (default f32)"},
        {"--device", OPTION_TEXT, &device, "cpu|ref|cuda", "backend (default cpu)"},
        {"--threads", OPTION_INTEGER, &threads, "N", "default: all cores"},
    };
    int rc = cli_parse(argc, argv, "verify MODEL REFERENCE.safetensors [--dtype f32|bf16]",
                       "Computes what the reference file holds (logits, log-probs, loss,\n"
                       "gradients, weights) and prints the worst relative error of each beside\n"
                       "its bound. Exit code 0: all within, 1: not.",
                       options, RT_COUNT(options), words, &count, 2);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (count != 2)
        return cli_usage("which model and which file? usage: retake verify MODEL "
                         "REFERENCE.safetensors");
    bool bf16 = strcmp(dtype, "bf16") == 0;
    if (!bf16 && strcmp(dtype, "f32") != 0)
        return cli_usage("--dtype is f32 or bf16, got \"%s\"", dtype);
    if (threads < 0)
        return cli_usage("--threads is 0 (all cores) or more");
    rt_buf report = {0};
    rt_error err;
    bool pass = false;
    rc = rt_verify(words[0], words[1], bf16 ? RT_BF16 : RT_F32, device, (int)threads, &report,
                   &pass, &err);
    if (rc != 0)
        rc = cli_fail(&err);
    else {
        fputs(report.data ? report.data : "", stdout);
        rc = pass ? 0 : 1;
    }
    rt_buf_free(&report);
    return rc;
}

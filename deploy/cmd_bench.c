/* bench: tokens a second, and what share that is of what this machine can do. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "deploy/bench.h"

#define DEFAULT_MODEL "deploy/models/tiny"

typedef struct options {
    const char *model, *dtype, *device, *only;
    int64_t threads;
    double seconds;
    bool json;
} options;

typedef struct result {
    bench_figure figures[8];
    int count;
    bench_step step;
    double bandwidth;     /* bytes a second */
    size_t cache, weights;
    bool resident;        /* the weights fit in the cache */
    double others; /* share of the processors that other programs used meanwhile; −1: unknown */
} result;

/* ---- the model ------------------------------------------------------------------------------- */

static int random_model(cli_model *model, const options *o, rt_error *err)
{
    rt_arch arch = {
        .family = "llama",
        .layers = 3,
        .d = 96,
        .f = 192,
        .heads = 4,
        .kv_heads = 2,
        .head_size = 24,
        .vocab = 300,
        .context = 512,
        .norm_eps = 1e-5f,
        .tied = true,
        .rope_theta = 10000,
        .bos = -1,
    };
    int type = strcmp(o->dtype, "bf16") == 0 ? RT_BF16 : RT_F32;
    rt_weights *exact = NULL;
    int rc = rt_weights_new(&exact, &arch, RT_F32, err);
    if (rc == 0)
        rc = rt_weights_new(&model->weights, &arch, type, err);
    if (rc == 0) {
        rt_weights_randomize(exact, 1);
        rt_weights_convert(model->weights, exact);
        rc = rt_ops_open(&model->ops, o->device, (int)o->threads, err);
    }
    if (rc == 0)
        rc = rt_net_new(&model->net, &arch, type, model->ops, err);
    if (rc == 0)
        rt_net_set(model->net, model->weights);
    if (exact)
        rt_weights_free(&exact);
    if (rc != 0)
        cli_model_close(model);
    return rc;
}

static int open_model(cli_model *model, options *o, rt_error *err)
{
    *model = (cli_model){0};
    if (!o->model && rt_file_exists(DEFAULT_MODEL "/model.safetensors"))
        o->model = DEFAULT_MODEL;
    if (o->model)
        return cli_model_open(model, o->model, o->dtype, o->device, o->threads, err);
    o->model = "random weights";
    return random_model(model, o, err);
}

/* ---- other programs -------------------------------------------------------------------------- */

/* Processor seconds of the whole machine and of this process up to now. */
static bool processor_seconds(double *all, double *own)
{
    long long user, nice, system, idle, wait, irq, softirq, steal;
    FILE *file = fopen("/proc/stat", "r");
    if (!file)
        return false;
    int read = fscanf(file, "cpu %lld %lld %lld %lld %lld %lld %lld %lld", &user, &nice, &system,
                      &idle, &wait, &irq, &softirq, &steal);
    fclose(file);
    struct rusage usage;
    if (read != 8 || getrusage(RUSAGE_SELF, &usage) != 0)
        return false;
    *all = (double)(user + nice + system + irq + softirq + steal) / (double)sysconf(_SC_CLK_TCK);
    *own = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) * 1e-6;
    return true;
}

static double others_share(double all, double own, int64_t began_ns)
{
    double all_now, own_now;
    if (!processor_seconds(&all_now, &own_now))
        return -1;
    double seconds = (double)(rt_now_ns() - began_ns) * 1e-9;
    double share =
        (all_now - all - (own_now - own)) / (seconds * (double)sysconf(_SC_NPROCESSORS_ONLN));
    return RT_MIN(RT_MAX(share, 0), 1);
}

/* ---- measuring ------------------------------------------------------------------------------- */

static void say(const char *what)
{
    fprintf(stderr, "measuring %s …\n", what);
}

static const int batches[] = {1, 8, 32, 64}; /* in the order of their names */
static const char *const figure_names[] = {"decode batch 1",  "decode batch 8", "decode batch 32",
                                           "decode batch 64", "prefill",        "training",
                                           "whole step"};

static bool known_figure(const char *only)
{
    for (size_t i = 0; i < RT_COUNT(figure_names); i++)
        if (strncmp(figure_names[i], only, strlen(only)) == 0)
            return true;
    return false;
}

static bool wanted(const options *o, const char *figure)
{
    return !o->only || strncmp(figure, o->only, strlen(o->only)) == 0;
}

static int measure_decode(const options *o, const bench *b, result *r, rt_error *err)
{
    int rc = 0;
    say("decode");
    for (size_t i = 0; i < RT_COUNT(batches) && rc == 0; i++) {
        if (!wanted(o, figure_names[i]))
            continue;
        rc = bench_decode(b, batches[i], &r->figures[r->count], err);
        r->figures[r->count++].aim = batches[i] == 1 ? 0.75 : batches[i] == 32 ? 0.5 : 0;
    }
    return rc;
}

static int measure_figures(const options *o, const bench *b, result *r, rt_error *err)
{
    int rc = measure_decode(o, b, r, err);
    if (rc == 0 && wanted(o, "prefill")) {
        say("prefill");
        rc = bench_prefill(b, &r->figures[r->count++], err);
    }
    if (rc == 0 && wanted(o, "training")) {
        say("training");
        rc = bench_training(b, &r->figures[r->count], err);
        r->figures[r->count++].aim = 0.6;
    }
    if (rc == 0 && wanted(o, "whole step")) {
        say("whole steps");
        rc = bench_whole_step(b, &r->figures[r->count++], &r->step, err);
    }
    return rc;
}

static void measure_memory(bench *b, result *r)
{
    enum { UNIT = 1 << 30 };
    bench_times times = {0};
    r->cache = bench_cache_bytes();
    r->weights = bench_roof_bytes(b->roof);
    r->resident = r->cache > 0 && r->weights <= r->cache;
    say("memory");
    b->memory = bench_memory_new(b->ops->threads, r->cache);
    bench_memory_time(b->memory, UNIT, RT_MIN(b->seconds, 1), &times);
    r->bandwidth = UNIT / bench_times_median(&times);
    bench_times_free(&times);
    if (r->resident)
        bench_memory_free(&b->memory);
}

static int measure(const options *o, bench *b, result *r, rt_error *err)
{
    double all = 0, own = 0;
    int64_t began = rt_now_ns();
    bool known = processor_seconds(&all, &own);
    measure_memory(b, r);
    int rc = measure_figures(o, b, r, err);
    r->others = known ? others_share(all, own, began) : -1;
    return rc;
}

/* ---- telling --------------------------------------------------------------------------------- */

static const int roof_rows[] = {1, 8, 32, 64, 512, 4096};

/* Many rows of a large model take minutes: where one figure was asked for, few are measured. */
static size_t roof_rows_count(const options *o)
{
    return o->only ? 3 : RT_COUNT(roof_rows);
}

static void print_text(const options *o, const bench *b, const result *r)
{
    const rt_weights *w = b->weights;
    printf("%s: %.2fM parameters, %s, %.1f MB of matrices; %s %s, %d thread%s\n", o->model,
           (double)w->count * 1e-6, o->dtype, (double)r->weights * 1e-6, b->ops->name, b->ops->isa,
           b->ops->threads, b->ops->threads == 1 ? "" : "s");
    printf("matmul roof, GFLOP/s by rows:");
    for (size_t i = 0; i < roof_rows_count(o); i++)
        printf("  %d: %.1f", roof_rows[i], bench_roof_gflops(b->roof, roof_rows[i]));
    printf("\nmemory read roof: %.1f GB/s; the weights %s the last-level cache (%.1f MB)%s\n\n",
           r->bandwidth * 1e-9, r->resident ? "fit in" : "exceed", (double)r->cache * 1e-6,
           r->resident ? ", so batch 1 is held against matmuls of 1 row" : "");
    printf("%-20s %12s %12s %8s %8s   %s\n", "figure", "tokens/s", "at the roof", "share", "aim",
           "roof");
    for (int i = 0; i < r->count; i++) {
        const bench_figure *f = &r->figures[i];
        char aim[16] = "-";
        if (f->aim > 0)
            snprintf(aim, sizeof aim, "%.0f %%", 100 * f->aim);
        printf("%-20s %12.0f %12.0f %6.1f %% %8s   %s\n", f->name, f->tokens_per_second,
               f->tokens_per_second / RT_MAX(f->share, 1e-12), 100 * f->share, aim, f->roof);
    }
    const bench_step *s = &r->step;
    printf("\n");
    if (s->sampled > 0)
        printf("a step: %lld tokens sampled in %.1f ms, trained on in %.1f ms, weights renewed in "
               "%.1f ms\nlog-probs of sampling and training: %lld compared, %lld differ\n",
               (long long)s->sampled, 1e3 * s->sampling, 1e3 * s->training, 1e3 * s->update,
               (long long)s->compared, (long long)s->mismatched);
    printf("prompts of %d tokens, answers of %d; training counts distinct tokens of groups of %d\n",
           b->prompt, b->response, BENCH_GROUP);
    if (r->others > 0.05)
        printf("other programs used %.0f %% of the processors meanwhile: measure on a quiet "
               "machine to compare\n",
               100 * r->others);
}

static json_t *figures_json(const result *r)
{
    json_t *list = json_array();
    for (int i = 0; i < r->count; i++) {
        const bench_figure *f = &r->figures[i];
        json_array_append_new(list, json_pack("{s:s, s:f, s:f, s:s, s:o}", "name", f->name,
                                              "tokens_per_second", f->tokens_per_second, "share",
                                              f->share, "roof", f->roof, "aim",
                                              f->aim > 0 ? json_real(f->aim) : json_null()));
    }
    return list;
}

static void print_json(const options *o, const bench *b, const result *r)
{
    json_t *roof = json_array();
    for (size_t i = 0; i < roof_rows_count(o); i++)
        json_array_append_new(roof, json_pack("{s:i, s:f}", "rows", roof_rows[i], "gflops",
                                              bench_roof_gflops(b->roof, roof_rows[i])));
    json_t *step = json_pack("{s:I, s:f, s:f, s:f, s:I, s:I}", "tokens",
                             (json_int_t)r->step.sampled, "sampling_seconds", r->step.sampling,
                             "training_seconds", r->step.training, "update_seconds", r->step.update,
                             "logprobs_compared", (json_int_t)r->step.compared,
                             "logprobs_mismatched", (json_int_t)r->step.mismatched);
    json_t *root = json_pack(
        "{s:s, s:I, s:s, s:I, s:s, s:s, s:i, s:f, s:I, s:b, s:o, s:o, s:o, s:f}", "model", o->model,
        "parameters", (json_int_t)b->weights->count, "dtype", o->dtype, "matrix_bytes",
        (json_int_t)r->weights, "device", b->ops->name, "isa", b->ops->isa, "threads",
        b->ops->threads, "read_bytes_per_second", r->bandwidth, "cache_bytes", (json_int_t)r->cache,
        "weights_in_cache", (int)r->resident, "matmul_roof", roof, "figures", figures_json(r),
        "step", step, "others_share", r->others);
    RT_ASSERT(root != NULL);
    char *text = json_dumps(root, JSON_COMPACT | JSON_REAL_PRECISION(6));
    printf("%s\n", text);
    free(text);
    json_decref(root);
}

/* ---- the command ----------------------------------------------------------------------------- */

static int run(options *o, rt_error *err)
{
    cli_model model;
    int rc = open_model(&model, o, err);
    if (rc != 0)
        return rc;
    int context = model.weights->arch.context;
    bench b = {
        .ops = model.ops, .net = model.net, .weights = model.weights,
        .tokenizer = model.tokenizer, .seconds = o->seconds,
    };
    b.prompt = RT_MIN(24, context / 4);
    b.response = RT_MIN(96, context - b.prompt - 1);
    if (context < 16)
        rc = rt_fail(err, RT_ERR_INPUT, "%s: its context of %d tokens is too short to measure",
                     o->model, context);
    if (rc == 0) {
        result r = {0};
        b.roof = bench_roof_new(b.ops, b.weights, BENCH_MICRO_TOKENS, o->seconds);
        rc = measure(o, &b, &r, err);
        if (rc == 0 && o->json)
            print_json(o, &b, &r);
        else if (rc == 0)
            print_text(o, &b, &r);
        bench_memory_free(&b.memory);
        bench_roof_free(&b.roof);
    }
    cli_model_close(&model);
    return rc;
}

int cmd_bench(int argc, char **argv)
{
    options o = {.dtype = "f32", .device = "cpu", .seconds = 1};
    const cli_option list[] = {
        {"--json", OPTION_FLAG, &o.json, NULL, "one JSON object"},
        {"--threads", OPTION_INTEGER, &o.threads, "N", "default: all cores"},
        {"--seconds", OPTION_REAL, &o.seconds, "S", "for each figure (default 1)"},
        {"--only", OPTION_TEXT, &o.only, "NAME", "figures whose name begins so, as \"decode\""},
        {"--dtype", OPTION_TEXT, &o.dtype, "f32|bf16", "weights in memory (default f32)"},
        {"--device", OPTION_TEXT, &o.device, "cpu|ref|cuda", "backend (default cpu)"},
    };
    int words;
    int rc = cli_parse(argc, argv, "bench [MODEL] [--json] [--threads N] [--seconds S] [--only NAME]",
                       "Tokens a second of decode, prefill, training and a whole step (16\n"
                       "problems with 8 answers each), and each as a share of a roof measured in\n"
                       "the same run: the model's own matmuls with nothing between, and reading\n"
                       "memory. Without MODEL: " DEFAULT_MODEL ", or random weights of its size.",
                       list, RT_COUNT(list), &o.model, &words, 1);
    if (rc != 0)
        return rc < 0 ? 0 : rc;
    if (words == 0)
        o.model = NULL;
    if (o.threads < 0 || !(o.seconds >= 0.01 && o.seconds <= 600))
        return cli_usage("--threads is 0 (all cores) or more, --seconds 0.01 to 600");
    if (strcmp(o.dtype, "f32") != 0 && strcmp(o.dtype, "bf16") != 0)
        return cli_usage("--dtype is f32 or bf16, got \"%s\"", o.dtype);
    if (o.only && !known_figure(o.only))
        return cli_usage("--only \"%s\": no figure begins so; there are decode batch 1, 8, 32 and 64, "
                         "prefill, training and whole step", o.only);
    rt_error err;
    return run(&o, &err) != 0 ? cli_fail(&err) : 0;
}

/* cpi: command line of the theory checks; see cpi.h and docs/science.md. */
#include "bench/cpi.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char usage[] =
    "usage: cpi rates   [--quick] [--seed N] [--actions N] [--horizon N] [--to FILE] [--svg FILE]\n"
    "       cpi tabular [--quick] [--seed N] [--actions N] [--to FILE] [--svg FILE]\n"
    "\n"
    "rates    samples and exact improvement of CPI-RR and CPI-CARO against p, with fitted slopes\n"
    "tabular  policy gradients on a chain of decisions, with and without resets\n"
    "\n"
    "CSV goes to stdout or --to, a plot to --svg. --quick: fewer seeds, same form.\n";

typedef struct arguments {
    rt_cpi_options options;
    const char *to, *svg;
} arguments;

static int read_number(const char *key, const char *text, int64_t low, int64_t high, int64_t *out,
                       rt_error *err)
{
    char *end;
    errno = 0;
    long long value = strtoll(text, &end, 10);
    if (errno || end == text || *end || value < low || value > high)
        return rt_fail(err, RT_ERR_USAGE, "%s takes a whole number from %lld to %lld, not \"%s\"",
                       key, (long long)low, (long long)high, text);
    *out = value;
    return RT_OK;
}

static int read_option(const char *key, const char *text, bool rates, arguments *out,
                       rt_error *err)
{
    int64_t value = 0;
    int code = RT_OK;
    if (!strcmp(key, "--to")) {
        out->to = text;
    } else if (!strcmp(key, "--svg")) {
        out->svg = text;
    } else if (!strcmp(key, "--seed")) {
        code = read_number(key, text, 0, INT64_MAX, &value, err);
        out->options.seed = (uint64_t)value;
    } else if (!strcmp(key, "--actions")) {
        code = read_number(key, text, 2, RT_CPI_ACTIONS_MAX, &value, err);
        out->options.actions = (int)value;
    } else if (!strcmp(key, "--horizon") && rates) {
        code = read_number(key, text, 2, RT_CPI_STATES_MAX / 4, &value, err);
        out->options.horizon = (int)value;
    } else {
        return rt_fail(err, RT_ERR_USAGE, "cpi does not know \"%s\" here: see cpi --help", key);
    }
    return code;
}

static int read_arguments(int count, char **words, arguments *out, rt_error *err)
{
    if (count < 2 || (strcmp(words[1], "rates") && strcmp(words[1], "tabular")))
        return rt_fail(err, RT_ERR_USAGE, "cpi takes rates or tabular first: see cpi --help");
    for (int i = 2; i < count; i++) {
        if (!strcmp(words[i], "--quick")) {
            out->options.quick = true;
            continue;
        }
        if (i + 1 == count)
            return rt_fail(err, RT_ERR_USAGE, "\"%s\" is unknown or lacks its value: see cpi "
                           "--help", words[i]);
        int code = read_option(words[i], words[i + 1], !strcmp(words[1], "rates"), out, err);
        if (code)
            return code;
        i++;
    }
    return RT_OK;
}

static int run(int count, char **words, rt_error *err)
{
    rt_buf csv = {0}, svg = {0};
    arguments given = {.options = {.seed = 1, .horizon = 8, .csv = &csv, .svg = &svg}};
    int code = read_arguments(count, words, &given, err);
    if (!code)
        code = strcmp(words[1], "rates") ? rt_cpi_tabular(&given.options, err)
                                         : rt_cpi_rates(&given.options, err);
    if (!code && given.svg)
        code = rt_file_write(given.svg, svg.data, svg.bytes, err);
    if (!code && given.to)
        code = rt_file_write(given.to, csv.data, csv.bytes, err);
    else if (!code && (fwrite(csv.data, 1, csv.bytes, stdout) != csv.bytes || fflush(stdout)))
        code = rt_fail(err, RT_ERR_IO, "stdout: %s", strerror(errno));
    rt_buf_free(&csv);
    rt_buf_free(&svg);
    return code;
}

int main(int count, char **words)
{
    if (count > 1 && (!strcmp(words[1], "--help") || !strcmp(words[1], "help"))) {
        fputs(usage, stdout);
        return 0;
    }
    rt_error err = {0};
    int code = run(count, words, &err);
    if (code)
        fprintf(stderr, "cpi: %s\n", err.message);
    return rt_exit_code(code);
}

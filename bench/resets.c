/* resets: command line of the reader; see resets.h. */
#include "bench/gradients.h"

#include <string.h>

static const char usage[] =
    "usage: resets report FOLDER --to FOLDER    CSV, tables.md and plots of finished runs\n"
    "       resets tune FOLDER --to FILE        the best learning rates of runs with several\n"
    "       resets cost FOLDER --to FILE        what a step costs beside grpo_seqmean's\n";

static int write(const char *folder, const char *name, const rt_buf *text, rt_error *err)
{
    char *path = rt_format("%s/%s", folder, name);
    int code = rt_file_write(path, text->data, text->bytes, err);
    rt_free(path);
    return code;
}

static int report(const rt_resets_runs *runs, const char *to, rt_error *err)
{
    static const struct {
        const char *name;
        void (*write)(const rt_resets_runs *runs, rt_buf *out);
    } files[] = {{"curves.csv", rt_resets_csv_curves}, {"runs.csv", rt_resets_csv_runs},
                 {"gradients.csv", rt_gradients_csv}, {"tables.md", rt_resets_tables}};
    rt_buf text = {0};
    int code = rt_mkdirs(to, err);
    for (size_t i = 0; i < RT_COUNT(files) && !code; i++) {
        rt_buf_clear(&text);
        files[i].write(runs, &text);
        code = write(to, files[i].name, &text, err);
    }
    rt_buf_free(&text);
    return code ? code : rt_resets_plots(runs, to, err);
}

static int tune(const rt_resets_runs *runs, const char *to, rt_error *err)
{
    rt_buf text = {0};
    rt_resets_rates(runs, &text);
    int code = rt_file_write(to, text.data, text.bytes, err);
    rt_buf_free(&text);
    return code;
}

static int cost(const rt_resets_runs *runs, const char *to, rt_error *err)
{
    rt_buf text = {0};
    int code = rt_resets_cost_table(runs, &text, err);
    if (!code)
        code = rt_file_write(to, text.data, text.bytes, err);
    rt_buf_free(&text);
    return code;
}

int main(int count, char **words)
{
    static const struct {
        const char *name;
        int (*run)(const rt_resets_runs *runs, const char *to, rt_error *err);
    } modes[] = {{"report", report}, {"tune", tune}, {"cost", cost}};
    size_t mode = 0;
    while (mode < RT_COUNT(modes) && (count < 2 || strcmp(words[1], modes[mode].name)))
        mode++;
    if (count != 5 || strcmp(words[3], "--to") || mode == RT_COUNT(modes)) {
        fputs(usage, stderr);
        return 2;
    }
    rt_resets_runs runs;
    rt_error err = {0};
    int code = rt_resets_load(&runs, words[2], &err);
    if (!code) {
        code = modes[mode].run(&runs, words[4], &err);
        rt_resets_free(&runs);
    }
    if (code)
        fprintf(stderr, "resets: %s\n", err.message);
    return rt_exit_code(code);
}

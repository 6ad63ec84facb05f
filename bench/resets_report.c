/* resets_report ROOT [--csv FILE] [--markdown FILE] [--svg FOLDER]: see resets_report.h. */
#include "bench/resets_report.h"

#include <string.h>

static const char usage[] =
    "usage: resets_report ROOT [--csv FILE] [--markdown FILE] [--svg FOLDER]\n"
    "\n"
    "Reads the finished runs ROOT/REGIME/METHOD/seed-N of bench/resets.sh. Without options the\n"
    "tables go to stdout. --svg writes resets-REGIME.svg for every regime.\n";

static int write_svgs(const rt_report *report, const char *dir, rt_error *err)
{
    int rc = rt_mkdirs(dir, err);
    for (int i = 0; i < report->count && !rc; i++) {
        const char *regime = report->runs[i].regime;
        if (i > 0 && strcmp(regime, report->runs[i - 1].regime) == 0)
            continue;
        rt_buf svg = {0};
        char *path = rt_format("%s/resets-%s.svg", dir, regime);
        rc = rt_report_svg(report, regime, &svg, err);
        rc = rc ? rc : rt_file_write(path, svg.data, svg.bytes, err);
        rt_free(path);
        rt_buf_free(&svg);
    }
    return rc;
}

static int write_text(void (*make)(const rt_report *report, rt_buf *out), const rt_report *report,
                      const char *path, rt_error *err)
{
    rt_buf text = {0};
    make(report, &text);
    int rc = RT_OK;
    if (path)
        rc = rt_file_write(path, text.data, text.bytes, err);
    else
        fwrite(text.data, 1, text.bytes, stdout);
    rt_buf_free(&text);
    return rc;
}

static int work(int count, char **words, rt_error *err)
{
    const char *to[3] = {NULL}; /* csv, markdown, svg */
    static const char *const keys[3] = {"--csv", "--markdown", "--svg"};
    for (int i = 2; i < count; i += 2) {
        int key = 0;
        while (key < 3 && strcmp(words[i], keys[key]) != 0)
            key++;
        if (key == 3 || i + 1 == count)
            return rt_fail(err, RT_ERR_USAGE, "\"%s\" is unknown or lacks its value: see "
                           "resets_report --help", words[i]);
        to[key] = words[i + 1];
    }
    rt_report report;
    int rc = rt_report_read(&report, words[1], err);
    if (!rc && to[0])
        rc = write_text(rt_report_csv, &report, to[0], err);
    if (!rc && (to[1] || count == 2))
        rc = write_text(rt_report_markdown, &report, to[1], err);
    if (!rc && to[2])
        rc = write_svgs(&report, to[2], err);
    rt_report_free(&report);
    return rc;
}

int main(int count, char **words)
{
    if (count < 2 || strcmp(words[1], "--help") == 0) {
        fputs(usage, count < 2 ? stderr : stdout);
        return count < 2 ? 2 : 0;
    }
    rt_error err = {0};
    int rc = work(count, words, &err);
    if (rc)
        fprintf(stderr, "resets_report: %s\n", err.message);
    return rt_exit_code(rc);
}

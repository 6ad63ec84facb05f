/*
 * grade_code: a program in Python 3 against the tests of its problem, each test in a sandbox of its
 * own. The gold answer is a JSON text, either
 *   {"tests": [{"input": "…", "output": "…"}, …], "timeout_s": 10}   stdin against stdout, or
 *   {"asserts": ["assert f(2) == 4", …], "timeout_s": 10}            Python behind the program.
 * Outputs are compared here, so the expected ones never come near the program; of the asserts it
 * can only find the one that is being checked.
 */
#include "tasks/grade.h"

#include <jansson.h>
#include <stdarg.h>
#include <string.h>
#include <sys/random.h>

#include "tasks/sandbox.h"

enum { TESTS_MAX = 256, SECONDS_STANDARD = 10, SECONDS_MAX = 60, SECONDS_TOTAL = 60 };

/* The check comes from stdin once the program is done, and is answered on a descriptor the program
 * was not told of. It keeps programs honest that end early; one that wants to can still lie. */
static const char RUNNER[] =
    "import os\n"
    "a, b, n = os.dup(0), os.dup(1), os.open('/dev/null', os.O_RDWR)\n"
    "os.dup2(n, 0), os.dup2(n, 1)\n"
    "space = {'__name__': 'program'}\n"
    "with open('/program.py', encoding='utf-8') as f: text = f.read()\n"
    "exec(compile(text, '/program.py', 'exec'), space)\n"
    "with open(a, encoding='utf-8') as f: token, check = f.read().split('\\n', 1)\n"
    "exec(compile(check, 'assert', 'exec'), space)\n"
    "os.write(b, token.encode())\n";

/* ---- tests -------------------------------------------------------------------------------- */

typedef struct code_tests {
    json_t *root, *list; /* list: borrows from root */
    bool asserts;
    double seconds;
} code_tests;

static bool test_read(const json_t *test, bool asserts)
{
    return asserts ? json_is_string(test)
                   : json_is_object(test) && json_object_size(test) == 2 &&
                         json_is_string(json_object_get(test, "input")) &&
                         json_is_string(json_object_get(test, "output"));
}

/* False and what is wrong with it; root is to be released in both cases. */
static bool tests_read(code_tests *tests, rt_text gold, char why[100])
{
    *tests = (code_tests){.root = json_loadb(gold.at, gold.bytes, JSON_REJECT_DUPLICATES, NULL)};
    const json_t *list = json_object_get(tests->root, "tests");
    const json_t *asserts = json_object_get(tests->root, "asserts");
    const json_t *seconds = json_object_get(tests->root, "timeout_s");
    const char *wrong = NULL;
    tests->asserts = asserts != NULL;
    tests->list = (json_t *)(uintptr_t)(asserts ? asserts : list);
    tests->seconds = seconds ? json_number_value(seconds) : SECONDS_STANDARD;
    const size_t count = json_array_size(tests->list);
    const size_t known = (list != NULL) + (asserts != NULL) + (seconds != NULL);
    if (!json_is_object(tests->root)) {
        wrong = "it is no JSON object";
    } else if ((list != NULL) == (asserts != NULL)) {
        wrong = "it needs either \"tests\" or \"asserts\"";
    } else if (json_object_size(tests->root) != known) {
        wrong = "it has a key that is none of tests, asserts, timeout_s";
    } else if (!(tests->seconds > 0 && tests->seconds <= SECONDS_MAX)) {
        wrong = "timeout_s is no number above 0 and at most 60";
    } else if (count < 1 || count > TESTS_MAX) {
        wrong = "it needs a list of 1 to 256 tests";
    }
    for (size_t i = 0; i < count && !wrong; i++) {
        if (!test_read(json_array_get(tests->list, i), tests->asserts)) {
            snprintf(why, 100, "test %zu is no %s", i + 1,
                     tests->asserts ? "text" : "object of the texts \"input\" and \"output\"");
            return false;
        }
    }
    if (wrong) {
        snprintf(why, 100, "%s", wrong);
    }
    return !wrong;
}

int rt_code_gold_check(const char *gold, rt_error *err)
{
    const size_t bytes = strlen(gold);
    if (bytes > RT_CODE_GOLD_BYTES_MAX) {
        return rt_fail(err, RT_ERR_INPUT,
                       "the tests of a program have %zu bytes, at most %d can be", bytes,
                       RT_CODE_GOLD_BYTES_MAX);
    }
    char why[100];
    code_tests tests;
    const bool fine = tests_read(&tests, (rt_text){gold, bytes}, why);
    json_decref(tests.root);
    return fine ? RT_OK
                : rt_fail(err, RT_ERR_INPUT,
                          "the answer is no list of tests for the grader code: "
                          "%s; its form is {\"tests\": [{\"input\": \"…\", \"output\": \"…\"}]} or "
                          "{\"asserts\": [\"…\"]}",
                          why);
}

/* ---- the program -------------------------------------------------------------------------- */

/* Is the line that begins at `at` a fence? Spaces may stand before it. */
static bool fence(rt_text text, size_t at)
{
    while (at < text.bytes && (text.at[at] == ' ' || text.at[at] == '\t')) {
        at++;
    }
    return rt_text_starts(rt_text_skip(text, at), "```");
}

rt_text rt_code_program(rt_text response)
{
    size_t open = 0, close = 0, fences = 0; /* where the last two lines of that kind begin */
    for (size_t at = 0; at < response.bytes;) {
        if (fence(response, at)) {
            open = close;
            close = at;
            fences++;
        }
        const char *end = memchr(response.at + at, '\n', response.bytes - at);
        at = end ? (size_t)(end - response.at) + 1 : response.bytes;
    }
    if (fences < 2) {
        return response;
    }
    const char *line = memchr(response.at + open, '\n', close - open);
    const size_t begin = line ? (size_t)(line - response.at) + 1 : close;
    return (rt_text){response.at + begin, close - begin};
}

/* Two programs that differ have different extracts, also where they are cut. */
static void extract(rt_verdict *verdict, rt_text program)
{
    rt_verdict_extract(verdict, program);
    if (program.bytes >= sizeof verdict->extracted) {
        char tail[32];
        snprintf(tail, sizeof tail, "… %016llx",
                 (unsigned long long)rt_hash64(program.at, program.bytes, 0));
        const size_t room = sizeof verdict->extracted - 1 - strlen(tail);
        const size_t kept = RT_MIN(rt_utf8_valid(verdict->extracted, room), room);
        memcpy(verdict->extracted + kept, tail, strlen(tail) + 1);
    }
}

/* ---- one test ----------------------------------------------------------------------------- */

/* The next line without the space at its end; false: nothing but blank lines follows. */
static bool next_line(rt_text *text, rt_text *line)
{
    if (!rt_text_trim(*text).bytes) {
        return false;
    }
    const char *end = memchr(text->at, '\n', text->bytes);
    size_t bytes = end ? (size_t)(end - text->at) : text->bytes;
    *line = (rt_text){text->at, bytes};
    while (line->bytes && strchr(" \t\r\v\f", line->at[line->bytes - 1]) &&
           line->at[line->bytes - 1]) {
        line->bytes--;
    }
    *text = rt_text_skip(*text, bytes + 1);
    return true;
}

bool rt_code_output_same(rt_text output, rt_text expected)
{
    for (;;) {
        rt_text a = {0}, b = {0};
        const bool more = next_line(&output, &a), more_expected = next_line(&expected, &b);
        if (more != more_expected || !rt_text_equal(a, b)) {
            return false;
        }
        if (!more) {
            return true;
        }
    }
}

typedef struct attempt {
    rt_sandbox_job job;
    rt_sandbox_result result;
    bool right; /* what it wrote is what it should have written */
} attempt;

static int run_assert(attempt *try, const char *check, rt_error *err)
{
    uint64_t secret[2];
    char token[40];
    if (getrandom(secret, sizeof secret, 0) != (ssize_t)sizeof secret) {
        return rt_fail(err, RT_ERR_STATE, "the kernel gives no random numbers");
    }
    snprintf(token, sizeof token, "%016llx%016llx", (unsigned long long)secret[0],
             (unsigned long long)secret[1]);
    char *input = rt_format("%s\n%s\n", token, check);
    try->job.runner = RUNNER;
    try->job.input = input;
    try->job.input_bytes = strlen(input);
    int code = rt_sandbox_run(&try->job, &try->result, err);
    try->right = !code && !strcmp(try->result.output.data, token);
    rt_free(input);
    return code;
}

static int run_test(attempt *try, const json_t *test, rt_error *err)
{
    const json_t *input = json_object_get(test, "input"), *output = json_object_get(test, "output");
    try->job.input = json_string_value(input);
    try->job.input_bytes = json_string_length(input);
    int code = rt_sandbox_run(&try->job, &try->result, err);
    try->right = !code && rt_code_output_same(
                              (rt_text){try->result.output.data, try->result.output.bytes},
                              (rt_text){json_string_value(output), json_string_length(output)});
    return code;
}

__attribute__((format(printf, 2, 3))) static void say(rt_verdict *verdict, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(verdict->detail, sizeof verdict->detail, format, args);
    va_end(args);
    verdict->detail[rt_utf8_valid(verdict->detail, strlen(verdict->detail))] = '\0';
}

static void describe(const attempt *try, size_t index, size_t count, rt_verdict *verdict)
{
    char what[80];
    const rt_sandbox_result *result = &try->result;
    if (result->end == RT_SANDBOX_TIME) {
        snprintf(what, sizeof what, "no end after %g s", try->job.seconds);
    } else if (result->end == RT_SANDBOX_OUTPUT) {
        snprintf(what, sizeof what, "more than 1 MiB of output");
    } else if (result->end == RT_SANDBOX_SIGNAL) {
        snprintf(what, sizeof what, "ended by signal %d", result->status);
    } else if (result->status) {
        snprintf(what, sizeof what, "exit code %d: ", result->status);
    } else {
        snprintf(what, sizeof what, "%s",
                 try->job.runner ? "it ended before the assert" : "not the expected output");
    }
    const bool said = result->end == RT_SANDBOX_EXIT && result->status;
    say(verdict, "test %zu of %zu: %s%s", index + 1, count, what, said ? result->error : "");
}

/* ---- all of them -------------------------------------------------------------------------- */

static void undecided(rt_verdict *verdict, const char *why)
{
    verdict->grade = RT_UNDECIDED;
    verdict->reward = 0;
    say(verdict, "%s", why);
}

static void run_all(const code_tests *tests, rt_text program, const atomic_bool *stop,
                    rt_verdict *verdict)
{
    const size_t count = json_array_size(tests->list);
    const int64_t until = rt_now_ns() + SECONDS_TOTAL * INT64_C(1000000000);
    size_t passed = 0;
    for (size_t i = 0; i < count; i++) {
        const double left = (double)(until - rt_now_ns()) * 1e-9;
        attempt try = {.job = {.program = program.at,
                               .program_bytes = program.bytes,
                               .stop = stop,
                               .seconds = RT_MIN(tests->seconds, left)}};
        if (left <= 0) {
            if (!*verdict->detail) {
                say(verdict, "%zu of %zu tests did not run: %d s were spent", count - i, count,
                    SECONDS_TOTAL);
            }
            break; /* too slow for those that are left: not passed */
        }
        rt_error err = {0};
        const json_t *test = json_array_get(tests->list, i);
        int code = tests->asserts ? run_assert(&try, json_string_value(test), &err)
                                  : run_test(&try, test, &err);
        rt_buf_free(&try.result.output);
        if (code || try.result.end == RT_SANDBOX_STOPPED) {
            undecided(verdict, code ? err.message : "stopped");
            return;
        }
        const bool pass = try.result.end == RT_SANDBOX_EXIT && !try.result.status && try.right;
        passed += pass;
        if (!pass && !*verdict->detail) {
            describe(&try, i, count, verdict);
        }
    }
    verdict->grade = passed == count ? RT_CORRECT : RT_WRONG;
    verdict->reward = (double)passed / (double)count;
}

void rt_grade_code(rt_text response, rt_text gold, const atomic_bool *stop, rt_verdict *verdict)
{
    char why[100];
    code_tests tests;
    const rt_text program = rt_code_program(response);
    extract(verdict, program);
    if (!tests_read(&tests, gold, why)) {
        undecided(verdict, why);
    } else if (!rt_text_trim(program).bytes) {
        verdict->grade = RT_WRONG;
        say(verdict, "no program");
    } else {
        run_all(&tests, program, stop, verdict);
    }
    json_decref(tests.root);
}

/*
 * house_test: rules of the house that a compiler does not check: which folder may include which,
 * how long files, lines and functions are, and calls that nobody makes here.
 */
#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/base.h"

enum { LINES_MAX = 800, COLUMNS_MAX = 110, FUNCTION_LINES_MAX = 70, FILES_MAX = 1024 };
/* Functions longer than that: only ever fewer. */
enum { LONG_FUNCTIONS_MAX = 0 };

/* Each folder, and whose headers it may include beside its own. Roles meet in messages only. */
static const struct {
    const char *name, *may_include;
    bool header; /* has one public header of its own name */
} folders[] = {
    {"base", "", true},
    {"proto", "base", true},
    {"model", "base", true},
    {"tasks", "base", true},
    {"actor", "base proto model tasks", true},
    {"debate", "base model tasks", true},
    {"learner", "base proto model tasks", true},
    {"coordinator", "base proto model tasks debate", true},
    {"deploy", "base proto model tasks actor debate learner coordinator", false},
    {"bench", "base model", false},
    {"tests", "base proto model", false},
};

typedef struct source {
    char *path;
    rt_buf text;
    int folder;
} source;

static source sources[FILES_MAX];
static int sources_count;

static bool ends_with(const char *text, const char *end)
{
    size_t bytes = strlen(text), tail = strlen(end);
    return bytes >= tail && strcmp(text + bytes - tail, end) == 0;
}

static void read_folder(const char *path, int folder)
{
    DIR *dir = opendir(path);
    if (!dir)
        return;
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (entry->d_name[0] == '.')
            continue;
        char *inner = rt_format("%s/%s", path, entry->d_name);
        if (ends_with(inner, ".c") || ends_with(inner, ".h") || ends_with(inner, ".cu") ||
            ends_with(inner, ".cpp")) {
            assert_true(sources_count < FILES_MAX);
            source *file = &sources[sources_count++];
            *file = (source){.path = inner, .folder = folder};
            assert_int_equal(rt_file_read(inner, 1 << 22, &file->text, NULL), 0);
            continue;
        }
        read_folder(inner, folder);
        rt_free(inner);
    }
    closedir(dir);
}

static int read_all(void **state)
{
    (void)state;
    for (int i = 0; i < (int)RT_COUNT(folders); i++)
        read_folder(folders[i].name, i);
    return sources_count > 100 ? 0 : -1; /* else this is no checkout */
}

static int free_all(void **state)
{
    (void)state;
    for (int i = 0; i < sources_count; i++) {
        rt_free(sources[i].path);
        rt_buf_free(&sources[i].text);
    }
    return 0;
}

static bool has_word(const char *list, const char *word, size_t bytes)
{
    for (const char *at = list; *at; at += strspn(at, " ")) {
        size_t length = strcspn(at, " ");
        if (length == bytes && memcmp(at, word, bytes) == 0)
            return true;
        at += length;
    }
    return false;
}

static int line_of(const source *file, const char *at)
{
    int line = 1;
    for (const char *c = file->text.data; c < at; c++)
        line += *c == '\n';
    return line;
}

static void includes_go_one_way(void **state)
{
    (void)state;
    static const char directive[] = "#include \"";
    int wrong = 0, checked = 0;
    for (int i = 0; i < sources_count; i++) {
        const source *file = &sources[i];
        for (const char *at = file->text.data; (at = strstr(at, directive));) {
            at += strlen(directive);
            size_t bytes = strcspn(at, "/\"");
            const char *own = folders[file->folder].name;
            if (at[bytes] == '"')
                continue;
            checked++;
            if ((strlen(own) == bytes && memcmp(at, own, bytes) == 0) ||
                has_word(folders[file->folder].may_include, at, bytes))
                continue;
            print_error("%s:%d: %s may not include %.*s\n", file->path, line_of(file, at), own,
                        (int)strcspn(at, "\""), at);
            wrong++;
        }
    }
    assert_true(checked > 100);
    assert_int_equal(wrong, 0);
}

static void headers_are_there(void **state)
{
    (void)state;
    for (size_t i = 0; i < RT_COUNT(folders); i++) {
        if (!folders[i].header)
            continue;
        char *path = rt_format("%s/%s.h", folders[i].name, folders[i].name);
        if (!rt_file_exists(path))
            fail_msg("%s is missing", path);
        rt_free(path);
    }
}

/* Columns are characters: bytes that continue one in UTF-8 do not count. */
static void files_and_lines_are_short(void **state)
{
    (void)state;
    int wrong = 0;
    for (int i = 0; i < sources_count; i++) {
        const source *file = &sources[i];
        int lines = 0, columns = 0;
        for (const char *c = file->text.data; *c; c++) {
            if (*c != '\n') {
                columns += ((unsigned char)*c & 0xC0) != 0x80;
                continue;
            }
            lines++;
            if (columns > COLUMNS_MAX) {
                print_error("%s:%d: %d columns, at most %d\n", file->path, lines, columns, COLUMNS_MAX);
                wrong++;
            }
            columns = 0;
        }
        if (lines > LINES_MAX) {
            print_error("%s: %d lines, at most %d\n", file->path, lines, LINES_MAX);
            wrong++;
        }
    }
    assert_int_equal(wrong, 0);
}

/* A function's body lies between "{" and "}" alone in the first column. */
static void functions_fit_a_screen(void **state)
{
    (void)state;
    int longer = 0, functions = 0;
    for (int i = 0; i < sources_count; i++) {
        const source *file = &sources[i];
        int line = 0, begin = 0;
        for (const char *at = file->text.data; *at;) {
            size_t bytes = strcspn(at, "\n");
            line++;
            if (bytes == 1 && *at == '{')
                begin = line;
            if (bytes == 1 && *at == '}' && begin > 0) {
                functions++;
                if (line - begin - 1 > FUNCTION_LINES_MAX) {
                    print_message("%s:%d: a function of %d lines\n", file->path, begin, line - begin - 1);
                    longer++;
                }
                begin = 0;
            }
            at += bytes + (at[bytes] == '\n');
        }
    }
    assert_true(functions > 500);
    if (longer > LONG_FUNCTIONS_MAX)
        fail_msg("%d functions of more than %d lines, at most %d", longer, FUNCTION_LINES_MAX,
                 LONG_FUNCTIONS_MAX);
}

static bool in_name(char c)
{
    return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

static void nobody_calls_these(void **state)
{
    (void)state;
    static const char *const banned[] = {"strcpy(", "strcat(", "sprintf(", "vsprintf(",
                                         "rand(",   "srand(",  "gets(",    "alloca("};
    int wrong = 0;
    for (int i = 0; i < sources_count; i++)
        for (size_t j = 0; j < RT_COUNT(banned); j++)
            for (const char *at = sources[i].text.data; (at = strstr(at, banned[j])); at++) {
                if (at > sources[i].text.data && (in_name(at[-1]) || at[-1] == '"'))
                    continue;
                print_error("%s:%d: %s…) is not used here\n", sources[i].path, line_of(&sources[i], at),
                            banned[j]);
                wrong++;
            }
    assert_int_equal(wrong, 0);
}

/* The same bits everywhere need arithmetic as it is written. */
static void arithmetic_stays_as_written(void **state)
{
    (void)state;
    static const char *const flags[] = {"-ffast-math", "-Ofast", "-funsafe-math", "-fassociative-math"};
    for (int i = -3; i < (int)RT_COUNT(folders); i++) {
        static const char *const more[] = {"CMakeLists.txt", "CMakePresets.json", "cmake/component.cmake"};
        char *path = i < 0 ? rt_strdup(more[i + 3]) : rt_format("%s/CMakeLists.txt", folders[i].name);
        rt_buf text = {0};
        if (rt_file_exists(path)) {
            assert_int_equal(rt_file_read(path, 1 << 20, &text, NULL), 0);
            for (size_t j = 0; j < RT_COUNT(flags); j++)
                if (strstr(text.data, flags[j]))
                    fail_msg("%s: %s changes what is computed", path, flags[j]);
        }
        rt_buf_free(&text);
        rt_free(path);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(includes_go_one_way),   cmocka_unit_test(headers_are_there),
        cmocka_unit_test(files_and_lines_are_short), cmocka_unit_test(functions_fit_a_screen),
        cmocka_unit_test(nobody_calls_these),    cmocka_unit_test(arithmetic_stays_as_written),
    };
    return cmocka_run_group_tests_name("house", tests, read_all, free_all);
}

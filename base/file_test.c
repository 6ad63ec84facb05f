/* Tests of file.c in a folder of their own under TMPDIR. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"

static int make_folder(void **state)
{
    const char *parent = getenv("TMPDIR");
    char *folder = rt_format("%s/rt_file_test_XXXXXX", parent ? parent : "/tmp");
    *state = folder;
    return mkdtemp(folder) ? 0 : -1;
}

static int drop_folder(void **state)
{
    int code = rt_remove_tree(*state, NULL);
    bool gone = !rt_file_exists(*state);
    rt_free(*state);
    return code == RT_OK && gone ? 0 : -1;
}

static int entries(const char *folder)
{
    DIR *dir = opendir(folder);
    int count = -2; /* . and .. */
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

static void what_is_written_is_read(void **state)
{
    char *path = rt_format("%s/a", (char *)*state);
    rt_error err = {0};
    rt_buf buf = {0};
    rt_map map;
    assert_false(rt_file_exists(path));
    assert_int_equal(rt_file_write(path, "old text", 8, &err), RT_OK);
    assert_int_equal(rt_file_write(path, "n\0w", 3, &err), RT_OK);
    assert_int_equal(entries(*state), 1);
    assert_int_equal(rt_file_read(path, 3, &buf, &err), RT_OK);
    assert_int_equal(buf.bytes, 3);
    assert_memory_equal(buf.data, "n\0w", 4);
    assert_int_equal(rt_file_read(path, 2, &buf, &err), RT_ERR_LIMIT);
    assert_non_null(strstr(err.message, "larger than the 2 bytes"));
    assert_int_equal(rt_map_open(&map, path, &err), RT_OK);
    assert_int_equal(map.bytes, 3);
    assert_memory_equal(map.data, "n\0w", 3);
    rt_map_close(&map);
    assert_int_equal(rt_file_write(path, "", 0, &err), RT_OK);
    assert_int_equal(rt_file_read(path, 0, &buf, &err), RT_OK);
    assert_string_equal(buf.data, "");
    assert_int_equal(rt_map_open(&map, path, &err), RT_OK);
    assert_int_equal(map.bytes, 0);
    rt_map_close(&map);
    rt_buf_free(&buf);
    rt_free(path);
}

static void failures_are_sentences(void **state)
{
    char *missing = rt_format("%s/none/a", (char *)*state);
    rt_error err = {0};
    rt_buf buf = {0};
    rt_map map;
    assert_int_equal(rt_file_read(missing, 10, &buf, &err), RT_ERR_IO);
    assert_non_null(strstr(err.message, missing));
    assert_non_null(strstr(err.message, "No such file"));
    assert_int_equal(rt_map_open(&map, missing, &err), RT_ERR_IO);
    assert_int_equal(rt_file_write(missing, "x", 1, &err), RT_ERR_IO);
    assert_non_null(strstr(err.message, "check the path"));
    assert_int_equal(rt_map_open(&map, *state, &err), RT_ERR_IO);
    assert_int_equal(rt_file_read(*state, 10, &buf, &err), RT_ERR_IO);
    /* Renaming onto a folder fails after the bytes were written: nothing may stay behind. */
    assert_int_equal(rt_mkdirs(missing, &err), RT_OK);
    char *parent = rt_format("%s/none", (char *)*state);
    assert_int_equal(rt_file_write(missing, "x", 1, &err), RT_ERR_IO);
    assert_int_equal(entries(parent), 1);
    rt_free(parent);
    rt_free(missing);
    rt_buf_free(&buf);
}

/* A write that fails half-way (here: the limit on file sizes) leaves the old file. */
static void failed_write_keeps_the_old_file(void **state)
{
    char *path = rt_format("%s/a", (char *)*state);
    rt_error err = {0};
    rt_buf buf = {0};
    assert_int_equal(rt_file_write(path, "old", 3, &err), RT_OK);
    struct rlimit before, small;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small = before;
    small.rlim_cur = 4096;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    char *large = rt_alloc(10000);
    int code = rt_file_write(path, large, 10000, &err);
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, handler);
    rt_free(large);
    assert_int_equal(code, RT_ERR_IO);
    assert_non_null(strstr(err.message, "File too large"));
    assert_int_equal(entries(*state), 1);
    assert_int_equal(rt_file_read(path, 10, &buf, &err), RT_OK);
    assert_string_equal(buf.data, "old");
    rt_buf_free(&buf);
    rt_free(path);
}

static void closed_folders_are_refused(void **state)
{
    rt_error err = {0};
    /* A proc folder takes no new files, for the superuser neither. */
    assert_int_equal(rt_file_write("/proc/self/none", "x", 1, &err), RT_ERR_IO);
    if (geteuid() == 0) {
        return;
    }
    char *folder = rt_format("%s/closed", (char *)*state);
    char *path = rt_format("%s/a", folder);
    assert_int_equal(rt_mkdirs(folder, &err), RT_OK);
    chmod(folder, 0500);
    assert_int_equal(rt_file_write(path, "x", 1, &err), RT_ERR_IO);
    assert_non_null(strstr(err.message, "permissions"));
    chmod(folder, 0700);
    rt_free(path);
    rt_free(folder);
}

static void folders_come_and_go(void **state)
{
    rt_error err = {0};
    char *top = rt_format("%s/x", (char *)*state);
    char *deep = rt_format("%s//y/z/", top), *file = rt_format("%s/y/f", top);
    char *link = rt_format("%s/y/l", top), *below = rt_format("%s/y/f/g", top);
    char *aim = rt_format("%s/kept", (char *)*state);
    assert_int_equal(rt_mkdirs(deep, &err), RT_OK);
    assert_int_equal(rt_mkdirs(deep, &err), RT_OK);
    assert_true(rt_file_exists(deep));
    assert_int_equal(rt_file_write(file, "x", 1, &err), RT_OK);
    assert_int_equal(rt_mkdirs(file, &err), RT_ERR_IO);
    assert_int_equal(rt_mkdirs(below, &err), RT_ERR_IO);
    assert_int_equal(rt_file_write(aim, "x", 1, &err), RT_OK);
    assert_int_equal(symlink(aim, link), 0);
    assert_int_equal(rt_remove_tree(top, &err), RT_OK);
    assert_false(rt_file_exists(top));
    assert_true(rt_file_exists(aim)); /* links are removed, not followed */
    assert_int_equal(rt_remove_tree(top, &err), RT_OK);
    rt_free(top);
    rt_free(deep);
    rt_free(file);
    rt_free(link);
    rt_free(below);
    rt_free(aim);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_written_is_read, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(failures_are_sentences, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(failed_write_keeps_the_old_file, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(closed_folders_are_refused, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(folders_come_and_go, make_folder, drop_folder),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

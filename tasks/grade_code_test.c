/*
 * The grader code: programs right, wrong and partly right, and programs that try to get out of the
 * sandbox, use more than their share or leave something behind. Exit code 77: the kernel forbids it.
 */
#include "tasks/grade.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <jansson.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "tasks/sandbox.h"

static rt_verdict verdict;

static int grade_gold(const char *program, const char *gold)
{
    rt_error err;
    assert_int_equal(rt_grade_response("code", program, strlen(program), gold, &verdict, &err), 0);
    if (verdict.grade == RT_CORRECT) {
        assert_true(verdict.reward >= 1);
        assert_string_equal(verdict.detail, "");
    }
    return verdict.grade;
}

static int grade_json(const char *program, json_t *gold)
{
    char *text = json_dumps(gold, 0);
    int grade = grade_gold(program, text);
    free(text);
    json_decref(gold);
    return grade;
}

/* One test without input. */
static int grade_output(const char *program, const char *output)
{
    return grade_json(program, json_pack("{s:[{s:s, s:s}]}", "tests", "input", "", "output", output));
}

static void prints(const char *program, const char *output)
{
    if (grade_output(program, output) != RT_CORRECT) {
        rt_sandbox_job job = {.program = program, .program_bytes = strlen(program), .input = "",
                              .seconds = 10};
        rt_sandbox_result result;
        rt_error err = {0};
        rt_sandbox_run(&job, &result, &err);
        fail_msg("%s\n%s: it prints \"%s\", not \"%s\" (%s, %s)", program, verdict.detail,
                 result.output.data, output, result.error, err.message);
    }
}

/* It must be wrong, within bounds, and say why. */
static void fails(const char *program, const char *detail)
{
    const double seconds = strstr(detail, "no end") ? 1 : 50;
    json_t *gold = json_pack("{s:[{s:s, s:s}], s:f}", "tests", "input", "", "output", "never", "timeout_s",
                             seconds);
    assert_int_equal(grade_json(program, gold), RT_WRONG);
    assert_true(verdict.reward <= 0);
    if (!strstr(verdict.detail, detail)) {
        fail_msg("%s\nfails with \"%s\", not \"%s\"", program, verdict.detail, detail);
    }
}

/* ---- nothing is left ---------------------------------------------------------------------- */

static int descriptors(void)
{
    int count = 0;
    DIR *dir = opendir("/proc/self/fd");
    assert_non_null(dir);
    while (readdir(dir)) {
        count++;
    }
    closedir(dir);
    return count;
}

static int descriptors_before;

/* This process is the reaper of all that comes of it, so whatever survived would be its child now. */
static int begin(void **state)
{
    (void)state;
    descriptors_before = descriptors();
    return prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
}

static int nothing_left(void **state)
{
    (void)state;
    if (waitpid(-1, NULL, WNOHANG | __WALL) != -1 || errno != ECHILD) {
        print_error("a process is left\n");
        return -1;
    }
    if (descriptors() != descriptors_before) {
        print_error("%d descriptors are left\n", descriptors() - descriptors_before);
        return -1;
    }
    return 0;
}

/* ---- programs ----------------------------------------------------------------------------- */

static const char TWICE[] = "{\"tests\": [{\"input\": \"1\", \"output\": \"2\\n\"},"
                            " {\"input\": \"5\\n\", \"output\": \"10\"},"
                            " {\"input\": \"-3\", \"output\": \"-6   \\n\\n\"}]}";

static void right_wrong_and_partly(void **state)
{
    (void)state;
    assert_int_equal(grade_gold("So:\n```python\nprint(2 * int(input()))\n```\nDone.", TWICE), RT_CORRECT);
    assert_string_equal(verdict.extracted, "print(2 * int(input()))\n");
    assert_int_equal(grade_gold("print(2 * int(input()), ' ', sep='')\n", TWICE), RT_CORRECT);
    assert_int_equal(grade_gold("n = int(input())\nprint(n + max(n, 2))", TWICE), RT_WRONG);
    assert_true(verdict.reward > 0.33 && verdict.reward < 0.34);
    assert_string_equal(verdict.detail, "test 1 of 3: not the expected output");
    assert_int_equal(grade_gold("n = int(input())\nprint(n + abs(n))", TWICE), RT_WRONG);
    assert_true(verdict.reward > 0.66 && verdict.reward < 0.67);
    assert_int_equal(grade_gold("print(2)", TWICE), RT_WRONG);
    assert_int_equal(grade_gold("print(2 * int(input())); exit(3)", TWICE), RT_WRONG);
    assert_true(verdict.reward <= 0);
    assert_int_equal(grade_gold("print(n)", TWICE), RT_WRONG);
    assert_string_equal(verdict.detail,
                        "test 1 of 3: exit code 1: NameError: name 'n' is not defined");
    assert_int_equal(grade_gold("not Python", TWICE), RT_WRONG);
    assert_int_equal(grade_gold("", TWICE), RT_WRONG);
    assert_string_equal(verdict.detail, "no program");
    assert_int_equal(grade_gold("```\n\n```", TWICE), RT_WRONG);
    prints("import sys\nsys.stdout.buffer.write('ä数\\r\\n'.encode())", "ä数");
}

static void asserts(void **state)
{
    (void)state;
    static const char gold[] = "{\"asserts\": [\"assert f(2) == 4\", \"assert f(3) == 9\","
                               " \"for i in range(3):\\n    assert f(i) == i * i\"]}";
    assert_int_equal(grade_gold("def f(x): return x * x", gold), RT_CORRECT);
    assert_int_equal(grade_gold("print('so')\ndef f(x):\n    return x * x\n"
                                "if __name__ == '__main__':\n    print(f(int(input())))", gold),
                     RT_CORRECT);
    assert_int_equal(grade_gold("def f(x): return 2 * x", gold), RT_WRONG);
    assert_true(verdict.reward > 0.33 && verdict.reward < 0.34);
    assert_non_null(strstr(verdict.detail, "test 2 of 3: exit code 1: AssertionError"));
    /* Ending before the assert is no way to pass it, nor is writing something. */
    static const char *const early[] = {"import sys\nsys.exit(0)", "import os\nos._exit(0)",
                                        "raise SystemExit", "print('ok')\nquit()",
                                        "import os\nos.write(1, b'x'); os._exit(0)"};
    for (size_t i = 0; i < RT_COUNT(early); i++) {
        assert_int_equal(grade_gold(early[i], gold), RT_WRONG);
        assert_string_equal(verdict.detail, "test 1 of 3: it ended before the assert");
        assert_true(verdict.reward <= 0);
    }
    /* The asserts are not in sight while the program runs. */
    assert_int_equal(grade_gold("import sys\nseen = sys.stdin.read()\n"
                                "def f(x): return 'assert' in seen or x * x", gold), RT_CORRECT);
}

static void program_of(const char *response, const char *program)
{
    rt_text found = rt_code_program((rt_text){response, strlen(response)});
    if (found.bytes != strlen(program) || memcmp(found.at, program, found.bytes)) {
        fail_msg("\"%s\": \"%.*s\", not \"%s\"", response, (int)found.bytes, found.at, program);
    }
}

static void last_block(void **state)
{
    (void)state;
    program_of("print(1)", "print(1)");
    program_of("a\n```python\nb\n```\nc", "b\n");
    program_of("```\nb\n```", "b\n");
    program_of("```python\na\n```\nor\n```py\nb\nc\n```", "b\nc\n");
    program_of("  ```python\n  b\n  ```", "  b\n");
    program_of("```python\nprint('```')\n```\n", "print('```')\n");
    program_of("```python\ncut", "```python\ncut");
    program_of("```\n```", "");
    program_of("", "");
    program_of("```", "```");
    assert_true(rt_code_output_same((rt_text){"a \nb\r\n\n", 7}, (rt_text){"a\nb", 3}));
    assert_false(rt_code_output_same((rt_text){"a\n\nb", 4}, (rt_text){"a\nb", 3}));
    assert_false(rt_code_output_same((rt_text){" a", 2}, (rt_text){"a", 1}));
    assert_false(rt_code_output_same((rt_text){"a", 1}, (rt_text){"a\nb", 3}));
    assert_true(rt_code_output_same((rt_text){"\n", 1}, (rt_text){"", 0}));
}

static void extracts_differ(void **state)
{
    (void)state;
    char text[2][400];
    rt_verdict got[2] = {{0}};
    for (int i = 0; i < 2; i++) {
        memset(text[i], '#', sizeof text[i]);
        text[i][399] = (char)('a' + i);
        rt_grade_code((rt_text){text[i], sizeof text[i]}, (rt_text){"{}", 2}, NULL, &got[i]);
        assert_int_equal(got[i].grade, RT_UNDECIDED);
    }
    assert_string_not_equal(got[0].extracted, got[1].extracted);
    assert_int_equal(strncmp(got[0].extracted, got[1].extracted, 100), 0);
}

static void golds(void **state)
{
    (void)state;
    rt_error err = {0};
    if (rt_grader_ready("code", &err) != 0) {
        fail_msg("%s", err.message);
    }
    assert_int_equal(rt_code_gold_check(TWICE, &err), 0);
    assert_int_equal(rt_code_gold_check("{\"asserts\": [\"assert 1\"], \"timeout_s\": 0.5}", &err), 0);
    static const char *const bad[][2] = {
        {"12", "no JSON object"},
        {"{\"tests\": [", "no JSON object"},
        {"{}", "either"},
        {"{\"tests\": [], \"asserts\": []}", "either"},
        {"{\"tests\": []}", "1 to 256"},
        {"{\"tests\": {\"input\": \"\", \"output\": \"\"}}", "1 to 256"},
        {"{\"tests\": [{\"input\": \"\", \"output\": \"\"}, {\"input\": \"\"}]}", "test 2"},
        {"{\"tests\": [{\"input\": 1, \"output\": \"\"}]}", "test 1"},
        {"{\"asserts\": [1]}", "test 1"},
        {"{\"asserts\": [\"\"], \"timeout\": 3}", "a key"},
        {"{\"asserts\": [\"\"], \"timeout_s\": 0}", "timeout_s"},
        {"{\"asserts\": [\"\"], \"timeout_s\": 61}", "timeout_s"},
        {"{\"asserts\": [\"\"], \"timeout_s\": \"3\"}", "timeout_s"},
    };
    for (size_t i = 0; i < RT_COUNT(bad); i++) {
        assert_int_equal(rt_code_gold_check(bad[i][0], &err), RT_ERR_INPUT);
        if (!strstr(err.message, bad[i][1])) {
            fail_msg("%s: %s", bad[i][0], err.message);
        }
        assert_int_equal(grade_gold("print(1)", bad[i][0]), RT_UNDECIDED);
        assert_true(verdict.reward <= 0);
    }
}

/* ---- the house around the program ----------------------------------------------------------- */

static void what_it_is(void **state)
{
    (void)state;
    int extra = open("/dev/null", O_RDONLY); /* inherited by every child that does not close it */
    assert_true(extra >= 0);
    assert_int_equal(setenv("RETAKE_TEST_SECRET", "s3cret", 1), 0);
    prints("import os\nprint(os.getpid(), os.getppid(), os.getuid(), os.geteuid(), os.getgid())\n"
           "print(os.uname().nodename, os.getcwd())",
           "1 0 65534 65534 65534\nsandbox /tmp");
    prints("import os\nprint(sorted(set(os.environ) - {'LC_CTYPE'}))",
           "['OMP_NUM_THREADS', 'OPENBLAS_NUM_THREADS', 'PYTHONHASHSEED']");
    prints("import os\nfound = []\nfor fd in range(200):\n    try:\n        os.fstat(fd)\n"
           "        found.append(fd)\n    except OSError: pass\nprint(found)", "[0, 1, 2]");
    prints("import os\nroot = set(os.listdir('/'))\n"
           "print(sorted(root - {'lib', 'lib64', 'usr', 'etc', 'dev'}), os.listdir('/dev'),\n"
           "      os.listdir('/tmp'), set(os.listdir('/etc')) - {'alternatives', 'ld.so.cache'},\n"
           "      set(os.listdir('/usr')) - {'lib', 'lib64', 'bin', 'local', 'share'},\n"
           "      [n for n in os.listdir('/usr/bin') if not n.startswith('python')])",
           "['program.py', 'tmp'] ['null'] [] set() set() []");
    prints("import threading\nl = []\nt = threading.Thread(target=lambda: l.append(7))\n"
           "t.start(); t.join()\nprint(l)", "[7]");
    prints("open('/dev/null', 'w').write('x')\nopen('a', 'w').write('y')\nprint(open('/tmp/a').read())",
           "y");
    /* The order of a set is the same in every child. */
    prints("print(hash('a') == hash('a'), list({'one', 'two', 'three', 'four'}) == " /* line goes on */
           "list({'one', 'two', 'three', 'four'}))", "True True");
    unsetenv("RETAKE_TEST_SECRET");
    close(extra);
}

static void order_of_sets(void **state)
{
    (void)state;
    rt_buf first = {0};
    for (int i = 0; i < 3; i++) {
        const char *program = "print({'one', 'two', 'three', 'four', 'five'})";
        rt_sandbox_job job = {.program = program, .program_bytes = strlen(program), .input = "",
                              .seconds = 10};
        rt_sandbox_result result;
        assert_int_equal(rt_sandbox_run(&job, &result, NULL), 0);
        assert_true(result.output.bytes > 20);
        if (i == 0) {
            rt_buf_add(&first, result.output.data, result.output.bytes);
        }
        assert_string_equal(result.output.data, first.data);
        rt_buf_free(&result.output);
    }
    rt_buf_free(&first);
}

/* ---- looking and reaching out ----------------------------------------------------------------- */

static void files(void **state)
{
    (void)state;
    char secret[] = "/tmp/retake-grade-XXXXXX";
    int fd = mkstemp(secret);
    assert_true(fd >= 0);
    close(fd);
    const char *home = getenv("HOME");
    char *program = rt_format(
        "import os\nfor path in ['/etc/shadow', '/etc/passwd', '%s', '%s', '/root', '/home',\n"
        "             '/proc/self/environ', '/proc/1/mem', '/sys', '/var', '/tmp/../etc/shadow']:\n"
        "    try:\n        os.open(path, os.O_RDONLY)\n        print('reads', path)\n"
        "    except FileNotFoundError: pass\n"
        "for path in ['/x', '/usr/lib/x', '/usr/x', '/program.py', '/dev/x', '/tmp/../x', '/etc/x']:\n"
        "    try:\n        os.open(path, os.O_WRONLY | os.O_CREAT)\n        print('writes', path)\n"
        "    except OSError as e:\n        if e.errno not in (30, 13, 2): print(e)\n"
        "print('done')", secret, home && *home == '/' ? home : "/root");
    prints(program, "done");
    rt_free(program);
    assert_int_equal(access(secret, R_OK), 0);
    unlink(secret);
    prints("import os\nos.symlink('/etc/shadow', 'a'); os.symlink('/proc/1/root', 'b')\n"
           "os.symlink('../../../..', 'c')\n"
           "for path in ['a', 'b', 'b/etc/shadow', 'c/etc/shadow', 'c/root']:\n"
           "    try: print(os.listdir(path) if 'root' in path else open(path).read())\n"
           "    except FileNotFoundError: pass\n"
           "print(sorted(os.listdir('c')) == sorted(os.listdir('/')))\n"
           "try: os.open('c/x', os.O_WRONLY | os.O_CREAT)\n"
           "except OSError as e: print(e.errno)\n"
           "up = os.open('/', os.O_RDONLY)\n"
           "for i in range(9): up = os.open('..', os.O_RDONLY, dir_fd=up)\n"
           "print(sorted(os.listdir(up)) == sorted(os.listdir('/')))", "True\n30\nTrue");
    /* The place to write is small, in bytes and in files. */
    prints("import os\ntry:\n    for i in range(9):\n        with open(str(i), 'wb') as f:\n"
           "            for j in range(9): f.write(bytes(1 << 20))\n"
           "except OSError as e: print(e.errno, i < 3)", "28 True");
    prints("try:\n    for i in range(9999): open(str(i), 'w').close()\n"
           "except OSError as e: print(e.errno)", "28");
    prints("import os\nprint(os.listdir('/tmp'))", "[]"); /* nothing of those before */
}

/* What the tests expect is nowhere in the child: no file, argument, variable or descriptor has it,
 * and its memory begins anew. */
static void expected_outputs(void **state)
{
    (void)state;
    const char *program =
        "import gc, os, sys\nseen = ''.join(sys.argv) + str(os.environ)\n"
        "for folder, _, names in os.walk('/'):\n"
        "    if folder.startswith(('/usr', '/lib', '/dev', '/etc')): continue\n"
        "    for name in names: seen += open(folder + '/' + name).read()\n"
        "seen += sys.stdin.read() + str([o for o in gc.get_objects() if isinstance(o, (list, dict))])\n"
        "wanted = ''.join(['secret', '-', '1'])\n"
        "print('found' if wanted in seen else 'clean' if 'import gc' in seen else 'blind')";
    json_t *gold = json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "tests", "input", "a", "output", "clean",
                             "input", "b", "output", "secret-1");
    assert_int_equal(grade_json(program, gold), RT_WRONG);
    assert_true(verdict.reward > 0.49 && verdict.reward < 0.51);
    assert_non_null(strstr(verdict.detail, "test 2 of 2"));
}

static void network(void **state)
{
    (void)state;
    struct sockaddr_in here = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof here;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_int_equal(bind(listener, (struct sockaddr *)&here, bytes), 0);
    assert_int_equal(listen(listener, 4), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&here, &bytes), 0);
    char *program = rt_format("import socket\n"
                              "def no(f, *a):\n    try: f(*a); print('yes')\n"
                              "    except PermissionError: print('no')\n"
                              "no(socket.create_connection, ('127.0.0.1', %d))\n"
                              "no(socket.socket, socket.AF_UNIX)\nno(socket.socket, socket.AF_INET6)\n"
                              "no(socket.socketpair)\n"
                              "no(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW)\n"
                              "no(socket.socket, socket.AF_PACKET, socket.SOCK_RAW)",
                              ntohs(here.sin_port));
    prints(program, "no\nno\nno\nno\nno\nno");
    rt_free(program);
    assert_int_equal(accept(listener, NULL, NULL), -1);
    int own = socket(AF_INET, SOCK_STREAM, 0); /* from outside the same door is open */
    assert_int_equal(connect(own, (struct sockaddr *)&here, bytes), 0);
    close(own);
    close(listener);
}

/* System calls by number, with arguments that would work or fail otherwise. */
static const struct {
    const char *name;
    long number;
    const char *arguments;
} calls[] = {
    {"mount", SYS_mount, "b'none', b'/tmp', b'tmpfs', 0, 0"},
    {"umount2", SYS_umount2, "b'/tmp', 2"},
    {"pivot_root", SYS_pivot_root, "b'.', b'.'"},
    {"open_tree", SYS_open_tree, "-100, b'/', 1"},
    {"fsopen", SYS_fsopen, "b'tmpfs', 0"},
    {"mount_setattr", SYS_mount_setattr, "-100, b'/', 0, 0, 0"},
    {"chroot", SYS_chroot, "b'/tmp'"},
    {"ptrace", SYS_ptrace, "0, 0, 0, 0"},
    {"process_vm_readv", SYS_process_vm_readv, "1, 0, 0, 0, 0, 0"},
    {"process_vm_writev", SYS_process_vm_writev, "1, 0, 0, 0, 0, 0"},
    {"pidfd_open", SYS_pidfd_open, "1, 0"},
    {"kcmp", SYS_kcmp, "1, 1, 0, 0, 0"},
    {"kexec_load", SYS_kexec_load, "0, 0, 0, 0"},
    {"init_module", SYS_init_module, "0, 0, 0"},
    {"reboot", SYS_reboot, "0, 0, 0, 0"},
    {"bpf", SYS_bpf, "0, 0, 0"},
    {"perf_event_open", SYS_perf_event_open, "0, 0, 0, 0, 0"},
    {"keyctl", SYS_keyctl, "0, -3, 1"},
    {"add_key", SYS_add_key, "b'user', b'a', b'b', 1, -3"},
    {"request_key", SYS_request_key, "b'user', b'a', 0, 0"},
    {"userfaultfd", SYS_userfaultfd, "1"},
    {"unshare", SYS_unshare, "0x10000000"},
    {"setns", SYS_setns, "0, 0"},
    {"socket", SYS_socket, "1, 1, 0"},
    {"io_uring_setup", SYS_io_uring_setup, "1, 0"},
    {"memfd_create", SYS_memfd_create, "b'a', 0"},
    {"shmget", SYS_shmget, "0, 4096, 0o1600"},
    {"mq_open", SYS_mq_open, "b'a', 0o102, 0o600, 0"},
    {"prctl", SYS_prctl, "1, 0, 0, 0, 0"},
    {"seccomp", SYS_seccomp, "0, 0, 0"},
    {"personality", SYS_personality, "0xffffffff"},
    {"setuid", SYS_setuid, "65534"},
    {"setgroups", SYS_setgroups, "0, 0"},
    {"capset", SYS_capset, "0, 0"},
    {"clone", SYS_clone, "17, 0, 0, 0, 0"},
    {"clone in a new namespace", SYS_clone, "0x10000000 | 17, 0, 0, 0, 0"},
    {"execveat", SYS_execveat, "-100, b'/', 0, 0, 0"},
    {"mknodat", SYS_mknodat, "-100, b'/tmp/d', 0o20666, 259"},
    {"sethostname", SYS_sethostname, "b'a', 1"},
    {"syslog", SYS_syslog, "10, 0, 0"},
#ifdef SYS_fork
    {"fork", SYS_fork, ""},
    {"vfork", SYS_vfork, ""},
#endif
};

static void system_calls(void **state)
{
    (void)state;
    rt_buf program = {0};
    rt_buf_addf(&program, "import ctypes, os\nc = ctypes.CDLL(None, use_errno=True)\n"
                          "me = os.getpid()\n"
                          "def call(name, want, *a):\n    ctypes.set_errno(0)\n    got = c.syscall(*a)\n"
                          "    if os.getpid() != me: os._exit(0)\n"
                          "    if want != (ctypes.get_errno() if got == -1 else 0):\n"
                          "        print(name, got, ctypes.get_errno())\n"
                          "call('getuid', 0, %ld)\ncall('clone3', 38, %d, 0, 0)\n"
                          "call('a new one', 38, 999)\ncall('ioctl', 25, %ld, 0, 0x5401, 0)\n",
                (long)SYS_getuid, 435, (long)SYS_ioctl);
    for (size_t i = 0; i < RT_COUNT(calls); i++) {
        rt_buf_addf(&program, "call('%s', 1, %ld%s%s)\n", calls[i].name, calls[i].number,
                    *calls[i].arguments ? ", " : "", calls[i].arguments);
    }
#ifdef __x86_64__
    rt_buf_addf(&program, "call('x32', 1, 0x40000000 + 39)\n");
#endif
    rt_buf_addf(&program, "print('done')\n");
    prints(program.data, "done");
    rt_buf_free(&program);
}

/* ---- more than its share ------------------------------------------------------------------------ */

static void processes(void **state)
{
    (void)state;
    fails("import os\nwhile True: os.fork()", "PermissionError");
    fails("import os\nos.posix_spawn('/usr/bin/python3', ['x', '-c', 'while 1: pass'], {})",
          "PermissionError");
    fails("import subprocess, sys\nsubprocess.Popen([sys.executable, '-c', 'while 1: pass'])",
          "PermissionError");
    fails("import multiprocessing as m\nm.Process(target=print).start()", "PermissionError");
    /* Threads end with their process, and there can't be many. */
    fails("import threading, time\n"
          "for i in range(5): threading.Thread(target=time.sleep, args=(99,)).start()",
          "no end after 1 s");
    prints("import os, threading, time\nthreading.stack_size(1 << 16)\nn = 0\n"
           "try:\n    while n < 5000:\n"
           "        threading.Thread(target=time.sleep, args=(99,), daemon=True).start()\n        n += 1\n"
           "except RuntimeError: print(8 <= n < 64, flush=True)\nos._exit(0)", "True");
}

static void memory(void **state)
{
    (void)state;
    fails("x = []\nwhile True: x.append(bytearray(1 << 24))", "MemoryError");
    fails("x = 'a' * (1 << 33)", "MemoryError");
    prints("try: bytearray(2 << 30); print('much')\nexcept MemoryError: print(len(bytearray(1 << 28)))",
           "268435456");
    rt_sandbox_result result;
    rt_sandbox_job job = {.program = "bytearray(200 << 20)", .program_bytes = 20, .input = "",
                          .seconds = 10, .memory_bytes = 128 << 20};
    assert_int_equal(rt_sandbox_run(&job, &result, NULL), 0);
    assert_int_equal(result.end, RT_SANDBOX_EXIT);
    assert_int_equal(result.status, 1);
    assert_string_equal(result.error, "MemoryError");
    rt_buf_free(&result.output);
}

static void no_end(void **state)
{
    (void)state;
    fails("while True: pass", "test 1 of 1: no end after 1 s");
    fails("import time\ntime.sleep(99)", "no end after 1 s");
    fails("import signal, time\nfor s in range(1, 65):\n    try: signal.signal(s, signal.SIG_IGN)\n"
          "    except (OSError, ValueError): pass\nwhile True: time.sleep(9)", "no end after 1 s");
    fails("import os, time\nos.close(0); os.close(1); os.close(2)\ntime.sleep(99)", "no end after 1 s");
    fails("while True: print('never', flush=True)", "more than 1 MiB of output");
    fails("import sys\nsys.stdout.write('x' * (1 << 21))", "more than 1 MiB of output");
    fails("import sys\nwhile True: sys.stderr.write('x' * 9999)", "no end after 1 s");
    fails("import sys\nsys.stderr.write('x\\n' * 99999 + 'last words')\nsys.exit(5)",
          "exit code 5: last words");
    fails("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(n): return f(n + 1) + 1\nf(0)", "test 1 of 1");
    fails("import functools, sys\nsys.setrecursionlimit(10 ** 9)\n"
          "@functools.lru_cache(None)\ndef f(n): return f(n + 1)\nf(0)", "ended by signal 11");
    fails("def f(n): return f(n + 1) + 1\nf(0)", "RecursionError");
    fails("import os\nos.abort()", "ended by signal");
}

static void input_and_output_are_large(void **state)
{
    (void)state;
    char *input = rt_alloc((400 << 10) + 1);
    memset(input, 'i', 400 << 10);
    json_t *gold = json_pack("{s:[{s:s, s:s}, {s:s, s:s}]}", "tests", "input", input, "output", "409600",
                             "input", "", "output", "0");
    assert_int_equal(grade_json("import sys\nprint(len(sys.stdin.read()))", gold), RT_CORRECT);
    gold = json_pack("{s:[{s:s, s:s}]}", "tests", "input", input, "output", "unread");
    assert_int_equal(grade_json("print('unread')", gold), RT_CORRECT);
    input[200 << 10] = '\0';
    gold = json_pack("{s:[{s:s, s:s}]}", "tests", "input", input, "output", input);
    assert_int_equal(grade_json("import sys\nfor c in sys.stdin.read(): sys.stdout.write(c)", gold),
                     RT_CORRECT);
    rt_free(input);
}

/* ---- others -------------------------------------------------------------------------------------- */

static void signals(void **state)
{
    (void)state;
    prints("import os, signal\n"
           "for who in (os.getppid(), 0, -1, 1):\n    for what in (9, 15, 1, 19):\n"
           "        try: os.kill(who, what)\n        except (PermissionError, ProcessLookupError): pass\n"
           "try: os.killpg(os.getpgid(0), 9)\nexcept (PermissionError, ProcessLookupError): pass\n"
           "print('alive')", "alive");
    char *program = rt_format("import os\ntry: os.kill(%d, 9)\nexcept ProcessLookupError: print('nobody')",
                              (int)getpid());
    prints(program, "nobody");
    rt_free(program);
    /* A broken pipe to a child that is gone stays here too. */
    sigset_t waiting;
    sigpending(&waiting);
    assert_int_equal(sigismember(&waiting, SIGPIPE), 0);
}

typedef struct grading {
    atomic_bool stop;
    rt_verdict got;
} grading;

static void *grade_sleeping(void *context)
{
    grading *one = context;
    const char *program = "import time\nprint('up', flush=True)\ntime.sleep(50)";
    const char *gold = "{\"tests\": [{\"input\": \"\", \"output\": \"\"}], \"timeout_s\": 60}";
    rt_grade_until("code", program, strlen(program), gold, &one->stop, &one->got, NULL);
    return NULL;
}

/* A line of /proc/PROCESS/status, or of a link there. */
static void proc_text(int process, const char *file, const char *key, char *out, size_t bytes)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", process, file);
    *out = '\0';
    if (!key) {
        ssize_t got = readlink(path, out, bytes - 1);
        out[RT_MAX(got, 0)] = '\0';
        return;
    }
    FILE *in = fopen(path, "r");
    char line[256];
    while (in && fgets(line, sizeof line, in)) {
        const size_t skip = strlen(key);
        if (!strncmp(line, key, skip) && line[skip] == ':') {
            snprintf(out, bytes, "%s", line + skip + 1 + strspn(line + skip + 1, " \t"));
            out[strcspn(out, "\n")] = '\0';
        }
    }
    if (in) {
        fclose(in);
    }
}

static int parent_of(int process)
{
    char text[64];
    proc_text(process, "status", "PPid", text, sizeof text);
    return atoi(text);
}

/* The child of a process, once it has become Python and sleeps. */
static int wait_python(int parent)
{
    const struct timespec tick = {.tv_nsec = 10000000};
    for (int tries = 0; tries < 3000; tries++, nanosleep(&tick, NULL)) {
        DIR *dir = opendir("/proc");
        int found = 0;
        for (struct dirent *entry; dir && (entry = readdir(dir));) {
            int process = atoi(entry->d_name);
            char name[64], mode[64];
            if (process > 0 && parent_of(process) == parent) {
                proc_text(process, "status", "Name", name, sizeof name);
                proc_text(process, "status", "State", mode, sizeof mode);
                found = !strncmp(name, "python", 6) && *mode == 'S' ? process : found;
            }
        }
        closedir(dir);
        if (found) {
            return found;
        }
    }
    fail_msg("no sandbox came up");
    return 0;
}

/* From outside: no rights, no new ones, a filter, other namespaces, and it ends when told to. */
static void seen_from_outside(void **state)
{
    (void)state;
    grading one = {.stop = false};
    pthread_t thread;
    const gid_t group = 4321; /* a supplementary group that must not go along */
    assert_true(geteuid() != 0 || setgroups(1, &group) == 0);
    assert_int_equal(pthread_create(&thread, NULL, grade_sleeping, &one), 0);
    int process = wait_python((int)getpid());
    static const char *const lines[][2] = {
        {"CapInh", "0000000000000000"}, {"CapPrm", "0000000000000000"}, {"CapEff", "0000000000000000"},
        {"CapBnd", "0000000000000000"}, {"CapAmb", "0000000000000000"}, {"NoNewPrivs", "1"},
        {"Seccomp", "2"},
    };
    char text[128], own[128];
    /* Not of our group: with our user outside, a signal to its group would reach us. */
    assert_int_equal(getpgid(process), process);
    assert_int_equal(getsid(process), process);
    for (size_t i = 0; i < RT_COUNT(lines); i++) {
        proc_text(process, "status", lines[i][0], text, sizeof text);
        if (strcmp(text, lines[i][1])) {
            fail_msg("%s is \"%s\"", lines[i][0], text);
        }
    }
    static const char *const namespaces[] = {"user", "pid", "mnt", "net", "ipc", "uts", "cgroup"};
    for (size_t i = 0; i < RT_COUNT(namespaces); i++) {
        char file[32];
        snprintf(file, sizeof file, "ns/%s", namespaces[i]);
        proc_text(process, file, NULL, text, sizeof text);
        proc_text((int)getpid(), file, NULL, own, sizeof own);
        assert_true(*text && *own);
        assert_string_not_equal(text, own);
    }
    if (geteuid() == 0) { /* then it is nobody outside too */
        proc_text(process, "status", "Uid", text, sizeof text);
        assert_string_equal(text, "65534\t65534\t65534\t65534");
        proc_text(process, "status", "Groups", text, sizeof text);
        assert_int_equal(strcspn(text, "0123456789"), strlen(text));
    }
    atomic_store(&one.stop, true);
    pthread_join(thread, NULL);
    assert_int_equal(one.got.grade, RT_UNDECIDED);
    assert_string_equal(one.got.detail, "stopped");
    assert_int_equal(kill(process, 0), -1);
}

/* Whoever grades may be killed at any time: the program goes with it. */
static void dies_with_its_parent(void **state)
{
    (void)state;
    pid_t middle = fork();
    if (middle == 0) {
        grading one = {.stop = false};
        grade_sleeping(&one);
        _exit(1);
    }
    int process = wait_python((int)middle), status;
    assert_int_equal(kill(middle, SIGKILL), 0);
    assert_int_equal(waitpid(middle, &status, 0), middle);
    assert_int_equal(waitpid(process, &status, 0), process); /* ours now: it would sleep and exit */
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

/* ---- where it can't be done ------------------------------------------------------------------------ */

static void no_python(void **state)
{
    (void)state;
    rt_error err;
    setenv("RETAKE_PYTHON", "/nowhere/python3", 1);
    assert_int_equal(grade_gold("print(2 * int(input()))", TWICE), RT_UNDECIDED);
    assert_true(verdict.reward <= 0);
    assert_non_null(strstr(verdict.detail, "/nowhere/python3"));
    assert_int_equal(rt_grader_ready("code", &err), RT_ERR_STATE);
    assert_non_null(strstr(err.message, "RETAKE_PYTHON"));
    assert_int_equal(rt_grader_ready("math", &err), 0);
    rt_config config = {.tasks_count = 2};
    config.tasks[0] = (rt_task_config){.name = "a", .grader = "exact"};
    config.tasks[1] = (rt_task_config){.name = "b", .grader = "code"};
    assert_int_equal(rt_graders_ready(&config, &err), RT_ERR_USAGE);
    assert_non_null(strstr(err.message, "task b: programs can't be graded"));
    unsetenv("RETAKE_PYTHON");
    assert_int_equal(rt_graders_ready(&config, &err), 0);
}

static bool write_text(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY);
    bool done = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return done;
}

/* In a child that may make no user namespace: the same as on a machine that forbids them. */
static void kernel_forbids(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        char map[64];
        snprintf(map, sizeof map, "0 %d 1", (int)geteuid());
        if (unshare(CLONE_NEWUSER) != 0 || !write_text("/proc/self/uid_map", map) ||
            !write_text("/proc/sys/user/max_user_namespaces", "0")) {
            _exit(77);
        }
        rt_error err = {0};
        bool right = rt_grader_ready("code", &err) == RT_ERR_STATE &&
                     strstr(err.message, "user namespaces must be allowed") != NULL;
        rt_grade_response("code", "print(2 * int(input()))", 23, TWICE, &verdict, &err);
        right = right && verdict.grade == RT_UNDECIDED && strstr(verdict.detail, "can't be graded");
        _exit(right ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 77) {
        print_message("no limit of user namespaces can be set here\n");
        skip();
    }
    assert_int_equal(status, 0);
}

/* Not by the sandbox's own word: one that is broken must fail, not skip. */
static bool kernel_allows(void)
{
    pid_t child = fork();
    if (child == 0) {
        char map[64];
        snprintf(map, sizeof map, "0 %d 1", (int)geteuid());
        _exit(unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC |
                      CLONE_NEWUTS | CLONE_NEWCGROUP) != 0 ||
              !write_text("/proc/self/uid_map", map) ||
              mount("none", "/tmp", "tmpfs", 0, NULL) != 0 ||
              (syscall(SYS_mount_setattr, -1, "", 0, NULL, 0) != 0 && errno == ENOSYS));
    }
    int status;
    return waitpid(child, &status, 0) == child && status == 0;
}

int main(void)
{
    if (access("/usr/bin/python3", X_OK) != 0 || !kernel_allows()) {
        printf("skipped: there is no /usr/bin/python3, or this kernel or container forbids user "
               "namespaces or mounting in them\n");
        return 77;
    }
#define SAFE(test) cmocka_unit_test_setup_teardown(test, begin, nothing_left)
    const struct CMUnitTest tests[] = {
        SAFE(right_wrong_and_partly), SAFE(asserts), SAFE(last_block), SAFE(extracts_differ), SAFE(golds),
        SAFE(what_it_is), SAFE(order_of_sets), SAFE(files), SAFE(expected_outputs), SAFE(network),
        SAFE(system_calls), SAFE(processes), SAFE(memory), SAFE(no_end), SAFE(input_and_output_are_large),
        SAFE(signals), SAFE(seen_from_outside), SAFE(dies_with_its_parent), SAFE(no_python),
        SAFE(kernel_forbids),
    };
    return cmocka_run_group_tests_name("grade_code", tests, NULL, NULL);
}

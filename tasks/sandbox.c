/*
 * sandbox: the parent's side: what the child will see, its start, its pipes and clock, its end.
 * The child itself is sandbox_child.c.
 */
#include "tasks/sandbox_child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static const char PYTHON[] = "/usr/bin/python3", PYTHON_NAME[] = "RETAKE_PYTHON";
/* Beginning to be Python takes milliseconds; on a machine that is stuck nobody waits longer. */
enum { START_MS = 20000, TICK_MS = 100, PIECE = 1 << 16, ERRORS_KEPT = 2048 };

/* ---- what the child will see -------------------------------------------------------------- */

static int view_add(rt_sandbox_plan *plan, const char *path, rt_error *err)
{
    struct stat about;
    if (lstat(path, &about) != 0) {
        return RT_OK; /* not on this machine */
    }
    RT_ASSERT(plan->views_count < RT_VIEW_MAX);
    rt_view *view = &plan->views[plan->views_count++];
    if (strlen(path) >= sizeof view->path) {
        return rt_fail(err, RT_ERR_STATE, "%.60s…: the path of Python is too long", path);
    }
    memcpy(view->path, path, strlen(path) + 1);
    view->folder = S_ISDIR(about.st_mode);
    if (S_ISLNK(about.st_mode)) {
        ssize_t bytes = readlink(path, view->link, sizeof view->link - 1);
        view->link[RT_MAX(bytes, 0)] = '\0';
    }
    return RT_OK;
}

/* The folder that a program lies in, `levels` up; "" where there is none. */
static void folder_above(char *path, int levels)
{
    for (char *slash; levels > 0 && (slash = strrchr(path, '/')); levels--) {
        *slash = '\0';
    }
}

static int views_choose(rt_sandbox_plan *plan, const char *python, rt_error *err)
{
    static const char *const always[] = {"/usr/lib",  "/usr/lib64",       "/usr/local/lib",
                                         "/lib",      "/lib64",           "/etc/alternatives",
                                         "/dev/null", "/etc/ld.so.cache", "/usr/share/zoneinfo"};
    int code = RT_OK;
    for (size_t i = 0; i < RT_COUNT(always) && !code; i++) {
        code = view_add(plan, always[i], err);
    }
    char prefix[PATH_MAX];
    snprintf(prefix, sizeof prefix, "%s", python);
    folder_above(prefix, 2);
    if (prefix[0] && strcmp(prefix, "/usr") && !code) {
        return view_add(plan, prefix, err); /* a Python of its own folder, libraries beside it */
    }
    return code ? code : view_add(plan, python, err);
}

static int python_find(char path[PATH_MAX], rt_error *err)
{
    const char *named = getenv(PYTHON_NAME);
    const char *wanted = named && *named ? named : PYTHON;
    struct stat about;
    if (!realpath(wanted, path) || stat(path, &about) != 0 || !S_ISREG(about.st_mode) ||
        access(path, X_OK) != 0) {
        return rt_fail(
            err, RT_ERR_STATE,
            "programs can't be graded: no Python 3 at %s; install the package python3, or "
            "name one in the environment as %s",
            wanted, PYTHON_NAME);
    }
    return RT_OK;
}

static int plan_make(rt_sandbox_plan *plan, const rt_sandbox_job *job, char python[PATH_MAX],
                     rt_error *err)
{
    plan->job = job;
    if (job->program_bytes > RT_SANDBOX_PROGRAM_MAX) {
        return rt_fail(err, RT_ERR_LIMIT, "the program has %zu bytes, at most %d are run",
                       job->program_bytes, RT_SANDBOX_PROGRAM_MAX);
    }
    int code = python_find(python, err);
    if (!code) {
        code = views_choose(plan, python, err);
    }
    if (!code && !rt_sandbox_filter(plan)) {
        code = rt_fail(err, RT_ERR_STATE,
                       "programs can't be graded: the sandbox is written for "
                       "x86-64 and AArch64, this is another CPU");
    }
    /* -B: no compiled files written, -s: no user's packages. */
    const char *const words[] = {
        python, "-B", "-s", "-X", "utf8", job->runner ? "-c" : "/program.py", job->runner};
    /* One order of sets and one thread of numeric libraries, so that two runs of it agree. */
    static const char *const environment[] = {"PYTHONHASHSEED=0", "OMP_NUM_THREADS=1",
                                              "OPENBLAS_NUM_THREADS=1"};
    for (size_t i = 0; i < RT_COUNT(words); i++) {
        plan->arguments[i] = (char *)(uintptr_t)words[i];
    }
    for (size_t i = 0; i < RT_COUNT(environment); i++) {
        plan->environment[i] = (char *)(uintptr_t)environment[i];
    }
    return code;
}

/* ---- start -------------------------------------------------------------------------------- */

typedef struct child {
    pid_t id;
    int handle; /* pidfd */
    int input, output, error, report, life;
} child;

static void close_one(int *fd)
{
    if (*fd >= 0) {
        close(*fd);
    }
    *fd = -1;
}

/* A pipe; the child's end gets a number that is in nobody's way. */
static bool pipe_make(int *ours, int *theirs, bool we_write)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    int other = ends[we_write ? 0 : 1];
    *ours = ends[we_write ? 1 : 0];
    *theirs = fcntl(other, F_DUPFD_CLOEXEC, 10);
    close(other);
    return *theirs >= 0 && fcntl(*ours, F_SETFL, O_NONBLOCK) == 0;
}

static bool pipes_make(child *one, rt_sandbox_ends *ends)
{
    return pipe_make(&one->input, &ends->input, true) &&
           pipe_make(&one->output, &ends->output, false) &&
           pipe_make(&one->error, &ends->error, false) &&
           pipe_make(&one->report, &ends->report, false) &&
           pipe_make(&one->life, &ends->life, true);
}

static void ends_close(rt_sandbox_ends *ends)
{
    close_one(&ends->input);
    close_one(&ends->output);
    close_one(&ends->error);
    close_one(&ends->report);
    close_one(&ends->life);
}

static bool tell(pid_t id, const char *file, const char *text)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/%s", (int)id, file);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool told = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    if (fd >= 0) {
        int number = errno;
        close(fd);
        errno = number;
    }
    return told;
}

/* The child's user is nobody outside too where we may map that, else it is ours with no rights. (Of
 * a root that may not, the kernel does not count threads; memory still bounds them.) */
static bool users_map(pid_t id, bool nobody)
{
    char users[64], groups[64];
    const long user = nobody ? RT_SANDBOX_USER : (long)geteuid();
    const long group = nobody ? RT_SANDBOX_USER : (long)getegid();
    snprintf(users, sizeof users, "%d %ld 1", RT_SANDBOX_USER, user);
    snprintf(groups, sizeof groups, "%d %ld 1", RT_SANDBOX_USER, group);
    tell(id, "oom_score_adj", "1000"); /* out of memory, it dies first; a wish, no more */
    return (nobody || tell(id, "setgroups", "deny")) && tell(id, "gid_map", groups) &&
           tell(id, "uid_map", users);
}

static int refused(const char *what, int number, rt_error *err)
{
    const bool forbidden = number == EPERM || number == EACCES || number == ENOSPC;
    const char *advice = "";
    if (number == ENOSYS || number == EINVAL) {
        advice = "; it needs Linux 5.12 or newer";
    } else if (forbidden) {
        advice = "; user namespaces must be allowed here (kernel.unprivileged_userns_clone, "
                 "user.max_user_namespaces, AppArmor, the rules of a container)";
    }
    return rt_fail(err, RT_ERR_STATE, "programs can't be graded: the sandbox can't %s: %s%s", what,
                   strerror(number), advice);
}

static int child_start(child *one, const rt_sandbox_plan *plan, rt_error *err)
{
    const unsigned long namespaces = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET |
                                     CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    sigset_t all, before;
    int handle = -1;
    sigfillset(&all); /* no handler of ours must run in the child */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    long id = syscall(SYS_clone, namespaces | CLONE_PIDFD | SIGCHLD, NULL, &handle, NULL, NULL);
    if (id == 0) {
        rt_sandbox_child(plan);
    }
    int number = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (id < 0) {
        return refused("make namespaces", number, err);
    }
    one->id = (pid_t)id;
    one->handle = handle;
    return RT_OK;
}

/* One report; false: the pipe is closed, or nothing came for too long. */
static bool report_read(child *one, rt_sandbox_report *report)
{
    struct pollfd wait = {.fd = one->report, .events = POLLIN};
    int ready;
    do {
        ready = poll(&wait, 1, START_MS);
    } while (ready < 0 && errno == EINTR);
    return ready > 0 && read(one->report, report, sizeof *report) == (ssize_t)sizeof *report &&
           report->what >= 0 && report->what < RT_STEPS_COUNT;
}

/* It says that it becomes Python, which closes the pipe; anything else says what failed. */
static int child_begins(child *one, rt_error *err)
{
    rt_sandbox_report first, second;
    if (!report_read(one, &first)) {
        return rt_fail(err, RT_ERR_STATE,
                       "the sandbox of a program ended before it began; is this "
                       "machine out of memory?");
    }
    if (first.what == RT_STEP_PYTHON && first.number == 0) {
        if (!report_read(one, &second)) {
            close_one(&one->report);
            return RT_OK;
        }
        first = second;
    }
    return refused(rt_sandbox_steps[first.what], first.number, err);
}

/* ---- while it runs ------------------------------------------------------------------------ */

typedef struct talk {
    child *one;
    const rt_sandbox_job *job;
    rt_sandbox_result *result;
    rt_buf errors; /* the end of stderr */
    size_t sent;
    bool ended; /* by itself */
} talk;

static void send_input(talk *t)
{
    size_t left = t->job->input_bytes - t->sent;
    ssize_t done = left ? write(t->one->input, t->job->input + t->sent, left) : 0;
    if (done > 0) {
        t->sent += (size_t)done;
    }
    if (t->sent == t->job->input_bytes || (done < 0 && errno != EAGAIN && errno != EINTR)) {
        close_one(&t->one->input); /* all of it, or nobody reads it */
    }
}

/* One piece; false: nothing more for now, or ever. */
static bool take(int *fd, rt_buf *into)
{
    char piece[PIECE];
    ssize_t got = read(*fd, piece, sizeof piece);
    if (got > 0) {
        rt_buf_add(into, piece, (size_t)got);
        return true;
    }
    if (got == 0 || (errno != EAGAIN && errno != EINTR)) {
        close_one(fd);
    }
    return false;
}

static void take_errors(talk *t)
{
    take(&t->one->error, &t->errors);
    if (t->errors.bytes > ERRORS_KEPT) {
        const size_t drop = t->errors.bytes - ERRORS_KEPT;
        memmove(t->errors.data, t->errors.data + drop, ERRORS_KEPT + 1);
        t->errors.bytes = ERRORS_KEPT;
    }
}

static bool too_much(const talk *t)
{
    return t->result->output.bytes > RT_SANDBOX_OUTPUT_MAX;
}

/* Until it ends by itself (true) or must be ended; why is in the result. */
static bool child_watch(talk *t)
{
    child *one = t->one;
    const int64_t until = rt_now_ns() + (int64_t)(t->job->seconds * 1e9);
    for (;;) {
        struct pollfd fds[] = {{.fd = one->handle, .events = POLLIN},
                               {.fd = one->output, .events = POLLIN},
                               {.fd = one->error, .events = POLLIN},
                               {.fd = one->input, .events = POLLOUT}};
        const int64_t left_ms = (until - rt_now_ns() + 999999) / 1000000;
        t->result->end = left_ms <= 0                                ? RT_SANDBOX_TIME
                         : t->job->stop && atomic_load(t->job->stop) ? RT_SANDBOX_STOPPED
                         : too_much(t)                               ? RT_SANDBOX_OUTPUT
                                                                     : RT_SANDBOX_EXIT;
        if (t->result->end != RT_SANDBOX_EXIT) {
            return false;
        }
        poll(fds, RT_COUNT(fds), (int)RT_MIN(left_ms, (int64_t)TICK_MS));
        if (fds[1].revents) {
            take(&one->output, &t->result->output);
        }
        if (fds[2].revents) {
            take_errors(t);
        }
        if (fds[3].revents) {
            send_input(t);
        }
        if (fds[0].revents) {
            return true;
        }
    }
}

/* What it left in the pipes. Nobody writes to them any more. */
static void drain(talk *t)
{
    while (t->one->output >= 0 && !too_much(t) && take(&t->one->output, &t->result->output)) {
    }
    for (size_t before = t->errors.bytes + 1; t->one->error >= 0 && t->errors.bytes != before;) {
        before = t->errors.bytes;
        take_errors(t);
    }
}

/* ---- its end ------------------------------------------------------------------------------ */

/* It is the first of its PID namespace: with it everything in there is gone. */
static bool child_end(child *one, bool by_force, siginfo_t *about)
{
    if (by_force) {
        syscall(SYS_pidfd_send_signal, one->handle, SIGKILL, NULL, 0);
    }
    int code;
    do {
        code = waitid(P_PID, (id_t)one->id, about, WEXITED | __WALL);
    } while (code != 0 && errno == EINTR);
    close_one(&one->handle);
    return code == 0;
}

static void last_line(const rt_buf *errors, char *out, size_t out_bytes)
{
    const char *text = errors->data ? errors->data : "";
    size_t end = errors->bytes;
    while (end && strchr(" \r\n", text[end - 1])) {
        end--;
    }
    size_t begin = end;
    while (begin && text[begin - 1] != '\n') {
        begin--;
    }
    size_t bytes = rt_utf8_valid(text + begin, RT_MIN(end - begin, out_bytes - 1));
    memcpy(out, text + begin, bytes);
    out[bytes] = '\0';
}

static int child_judge(talk *t, rt_error *err)
{
    siginfo_t about = {0};
    if (child_begins(t->one, err) != RT_OK) {
        child_end(t->one, true, &about);
        return RT_ERR_STATE;
    }
    t->ended = child_watch(t);
    if (!child_end(t->one, !t->ended, &about)) {
        return rt_fail(err, RT_ERR_STATE, "the end of a program in the sandbox can't be read: %s",
                       strerror(errno));
    }
    drain(t);
    rt_sandbox_result *result = t->result;
    if (t->ended) {
        result->end = too_much(t)                   ? RT_SANDBOX_OUTPUT
                      : about.si_code == CLD_EXITED ? RT_SANDBOX_EXIT
                                                    : RT_SANDBOX_SIGNAL;
        result->status = about.si_status;
    }
    if (too_much(t)) {
        result->output.bytes = RT_SANDBOX_OUTPUT_MAX;
        result->output.data[RT_SANDBOX_OUTPUT_MAX] = '\0';
    }
    last_line(&t->errors, result->error, sizeof result->error);
    return RT_OK;
}

static int run_plan(rt_sandbox_plan *plan, child *one, rt_sandbox_result *result, rt_error *err)
{
    const bool root = geteuid() == 0;
    bool mapped = false;
    for (int nobody = root; nobody >= 0 && !mapped; nobody--) {
        plan->drop_groups = nobody;
        if (!pipes_make(one, &plan->ends)) {
            return rt_fail(err, RT_ERR_STATE, "no pipe for a program in the sandbox: %s",
                           strerror(errno));
        }
        if (child_start(one, plan, err) != RT_OK) {
            return RT_ERR_STATE;
        }
        ends_close(&plan->ends);
        mapped = users_map(one->id, nobody);
        if (!mapped) { /* a map can be written only once: the next try takes another child */
            const int number = errno;
            siginfo_t about;
            child_end(one, true, &about);
            if (!nobody) {
                return refused("map its user", number, err);
            }
            close_one(&one->input), close_one(&one->output), close_one(&one->error);
            close_one(&one->report), close_one(&one->life);
        }
    }
    if (write(one->life, "g", 1) != 1) {
        /* It is gone already, and its report says why. */
    }
    talk t = {.one = one, .job = plan->job, .result = result};
    int code = child_judge(&t, err);
    rt_buf_free(&t.errors);
    return code;
}

/* Writing to a child that is gone must not end us; the signal that says so stays in this thread. */
static void pipe_signal(bool begin, sigset_t *before, bool *pending)
{
    const struct timespec now = {0};
    sigset_t broken, waiting;
    sigemptyset(&broken);
    sigaddset(&broken, SIGPIPE);
    if (begin) {
        sigpending(&waiting);
        *pending = sigismember(&waiting, SIGPIPE) == 1;
        pthread_sigmask(SIG_BLOCK, &broken, before);
        return;
    }
    while (!*pending && sigtimedwait(&broken, NULL, &now) < 0 && errno == EINTR) {
    }
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

int rt_sandbox_run(const rt_sandbox_job *job, rt_sandbox_result *result, rt_error *err)
{
    *result = (rt_sandbox_result){0};
    rt_buf_add(&result->output, "", 0);
    char python[PATH_MAX];
    rt_sandbox_plan *plan = rt_alloc(sizeof *plan);
    plan->ends = (rt_sandbox_ends){-1, -1, -1, -1, -1};
    child one = {.handle = -1, .input = -1, .output = -1, .error = -1, .report = -1, .life = -1};
    int code = plan_make(plan, job, python, err);
    if (!code) {
        sigset_t before;
        bool pending;
        pipe_signal(true, &before, &pending);
        code = run_plan(plan, &one, result, err);
        pipe_signal(false, &before, &pending);
    }
    ends_close(&plan->ends);
    close_one(&one.input), close_one(&one.output), close_one(&one.error);
    close_one(&one.report), close_one(&one.life), close_one(&one.handle);
    rt_free(plan);
    return code;
}

int rt_sandbox_ready(rt_error *err)
{
    static const char program[] = "import sys, json, math\n"
                                  "assert sys.version_info[0] == 3\n"
                                  "print(6 * 7)\n";
    const rt_sandbox_job job = {
        .program = program, .program_bytes = sizeof program - 1, .input = "", .seconds = 20};
    rt_sandbox_result result;
    int code = rt_sandbox_run(&job, &result, err);
    if (!code && (result.end != RT_SANDBOX_EXIT || result.status || !result.output.data ||
                  strcmp(result.output.data, "42\n"))) {
        code = rt_fail(err, RT_ERR_STATE,
                       "programs can't be graded: Python does not work in the "
                       "sandbox (end %d, status %d): %s",
                       result.end, result.status, result.error);
    }
    rt_buf_free(&result.output);
    return code;
}

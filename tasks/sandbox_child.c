/* sandbox_child: from a copy of the parent to Python behind locked doors, in system calls alone. */
#include "tasks/sandbox_child.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef OPEN_TREE_CLONE
#define OPEN_TREE_CLONE 1
#endif
#ifndef MOVE_MOUNT_F_EMPTY_PATH
#define MOVE_MOUNT_F_EMPTY_PATH 4
#endif

enum { INPUT, OUTPUT, ERROR, REPORT, LIFE, ENDS_COUNT };

const char *const rt_sandbox_steps[RT_STEPS_COUNT] = {
    [RT_STEP_DESCRIPTORS] = "close the files it inherits",
    [RT_STEP_VIEW] = "mount a read-only view of Python",
    [RT_STEP_USER] = "change to a user without rights",
    [RT_STEP_ROOT] = "change to a root folder of its own",
    [RT_STEP_LIMITS] = "set its limits",
    [RT_STEP_RIGHTS] = "drop its rights",
    [RT_STEP_FILTER] = "filter its system calls",
    [RT_STEP_PYTHON] = "start Python",
};

static bool tell(int what, int number)
{
    const rt_sandbox_report report = {what, number};
    return write(REPORT, &report, sizeof report) == (ssize_t)sizeof report;
}

_Noreturn static void give_up(int what)
{
    _exit(tell(what, errno) ? 1 : 2);
}

static void must(bool done, int what)
{
    if (!done) {
        give_up(what);
    }
}

/* ---- descriptors and signals -------------------------------------------------------------- */

static bool keep_only(const rt_sandbox_ends *ends)
{
    const int from[ENDS_COUNT] = {ends->input, ends->output, ends->error, ends->report, ends->life};
    for (int to = 0; to < ENDS_COUNT; to++) {
        if (dup2(from[to], to) < 0 || (to >= REPORT && fcntl(to, F_SETFD, FD_CLOEXEC) < 0)) {
            return false;
        }
    }
    return syscall(SYS_close_range, ENDS_COUNT, ~0u, 0) == 0;
}

static void signals_default(void)
{
    const struct sigaction standard = {.sa_handler = SIG_DFL};
    for (int number = 1; number < NSIG; number++) {
        sigaction(number, &standard, NULL); /* those that can't be set are what they should be */
    }
}

static void wait_for_go(void)
{
    char go;
    ssize_t got;
    do {
        got = read(LIFE, &go, 1);
    } while (got < 0 && errno == EINTR);
    if (got != 1) {
        _exit(1);
    }
}

/* ---- files -------------------------------------------------------------------------------- */

static bool lock(int fd, const char *path, unsigned flags, uint64_t attributes)
{
    struct mount_attr wanted = {.attr_set = attributes};
    return syscall(SYS_mount_setattr, fd, path, flags, &wanted, sizeof wanted) == 0;
}

/* Copies of what is mounted, taken before anything covers it. */
static bool views_take(const rt_sandbox_plan *plan, int trees[RT_VIEW_MAX])
{
    for (int i = 0; i < plan->views_count; i++) {
        const rt_view *view = &plan->views[i];
        trees[i] = -1;
        if (view->link[0]) {
            continue;
        }
        const unsigned whole = AT_RECURSIVE;
        /* A device that may not be opened is none. */
        const uint64_t device = strncmp(view->path, "/dev/", 5) ? MOUNT_ATTR_NODEV : 0;
        trees[i] = (int)syscall(SYS_open_tree, AT_FDCWD, view->path,
                                OPEN_TREE_CLONE | O_CLOEXEC | whole);
        if (trees[i] < 0 || !lock(trees[i], "", AT_EMPTY_PATH | whole,
                                  MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | device)) {
            return false;
        }
    }
    return true;
}

/* Makes the folders above a path, and the place itself, in the working folder. */
static bool place_make(const rt_view *view)
{
    char path[sizeof view->path];
    size_t bytes = strlen(view->path);
    memcpy(path, view->path + 1, bytes);
    for (size_t i = 1; i < bytes; i++) {
        if (path[i] == '/') {
            path[i] = '\0';
            if (mkdir(path, 0755) != 0 && errno != EEXIST) {
                return false;
            }
            path[i] = '/';
        }
    }
    if (view->link[0]) {
        return symlink(view->link, path) == 0;
    }
    if (view->folder) {
        return mkdir(path, 0755) == 0 || errno == EEXIST;
    }
    int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0644);
    return fd >= 0 && close(fd) == 0;
}

static bool program_write(const rt_sandbox_job *job)
{
    int fd = open("program.py", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0444);
    for (size_t at = 0; fd >= 0 && at < job->program_bytes;) {
        ssize_t done = write(fd, job->program + at, job->program_bytes - at);
        if (done <= 0) {
            return false;
        }
        at += (size_t)done;
    }
    return fd >= 0 && close(fd) == 0;
}

static bool root_change(const rt_sandbox_plan *plan, const int trees[RT_VIEW_MAX])
{
    const unsigned long plain = MS_NOSUID | MS_NODEV;
    if (mount("sandbox", "/tmp", "tmpfs", plain, "size=1m,nr_inodes=512,mode=755") != 0 ||
        chdir("/tmp") != 0 || !program_write(plan->job)) {
        return false;
    }
    for (int i = 0; i < plan->views_count; i++) {
        const rt_view *view = &plan->views[i];
        if (!place_make(view) ||
            (trees[i] >= 0 && syscall(SYS_move_mount, trees[i], "", AT_FDCWD, view->path + 1,
                                      MOVE_MOUNT_F_EMPTY_PATH) != 0)) {
            return false;
        }
    }
    return mkdir("tmp", 0755) == 0 &&
           mount("sandbox", "tmp", "tmpfs", plain | MS_NOEXEC,
                 "size=16m,nr_inodes=1024,mode=700") == 0 &&
           syscall(SYS_pivot_root, ".", ".") == 0 && umount2(".", MNT_DETACH) == 0 &&
           chdir("/") == 0 && lock(AT_FDCWD, "/", 0, MOUNT_ATTR_RDONLY) && chdir("/tmp") == 0;
}

/* ---- rights ------------------------------------------------------------------------------- */

/* Not by the C library's functions: those tell all threads of the parent, which are not here. */
static bool user_change(const rt_sandbox_plan *plan)
{
    const int user = RT_SANDBOX_USER;
    return (!plan->drop_groups || syscall(SYS_setgroups, 0, NULL) == 0) &&
           syscall(SYS_setresgid, user, user, user) == 0 &&
           syscall(SYS_setresuid, user, user, user) == 0 && sethostname("sandbox", 7) == 0;
}

static bool limits_set(const rt_sandbox_job *job)
{
    const rlim_t memory = job->memory_bytes > 0 ? (rlim_t)job->memory_bytes : (rlim_t)1 << 30;
    const struct {
        int which;
        rlim_t value;
    } limits[] = {
        {RLIMIT_AS, memory},      {RLIMIT_CPU, (rlim_t)job->seconds + 2},
        {RLIMIT_FSIZE, 16 << 20}, {RLIMIT_NOFILE, 64},
        {RLIMIT_STACK, 64 << 20}, {RLIMIT_NPROC, 64},
        {RLIMIT_CORE, 0},         {RLIMIT_MEMLOCK, 0},
        {RLIMIT_MSGQUEUE, 0},     {RLIMIT_SIGPENDING, 64},
    };
    for (size_t i = 0; i < RT_COUNT(limits); i++) {
        struct rlimit now, wanted = {limits[i].value, limits[i].value};
        if (getrlimit((__rlimit_resource_t)limits[i].which, &now) != 0) {
            return false;
        }
        wanted.rlim_max = RT_MIN(wanted.rlim_max, now.rlim_max); /* no right to raise it */
        wanted.rlim_cur = wanted.rlim_max;
        if (setrlimit((__rlimit_resource_t)limits[i].which, &wanted) != 0) {
            return false;
        }
    }
    return true;
}

static bool rights_drop(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    const struct __user_cap_data_struct none[2] = {{0}};
    for (int right = 0; right < 64; right++) {
        if (prctl(PR_CAPBSET_READ, right, 0, 0, 0) == 1 &&
            prctl(PR_CAPBSET_DROP, right, 0, 0, 0) != 0) {
            return false;
        }
    }
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0 &&
           syscall(SYS_capset, &header, none) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

/* A change of user forgets the signal of the parent's death, so it is set last; a parent that died
 * before left its end of the pipe closed. */
static bool parent_lives(void)
{
    struct pollfd life = {.fd = LIFE, .events = POLLIN};
    return prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) == 0 && poll(&life, 1, 0) == 0;
}

static bool filter_set(const rt_sandbox_plan *plan)
{
    struct sock_fprog program = {(unsigned short)plan->filter_count,
                                 (struct sock_filter *)(uintptr_t)plan->filter};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) == 0;
}

_Noreturn void rt_sandbox_child(const rt_sandbox_plan *plan)
{
    int trees[RT_VIEW_MAX];
    sigset_t none;
    must(keep_only(&plan->ends), RT_STEP_DESCRIPTORS);
    /* Of the parent's group no more: a signal to the own group must not reach it. */
    must(setsid() > 0, RT_STEP_DESCRIPTORS);
    signals_default();
    wait_for_go();
    must(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 && views_take(plan, trees),
         RT_STEP_VIEW);
    must(user_change(plan), RT_STEP_USER);
    must(root_change(plan, trees), RT_STEP_ROOT);
    must(limits_set(plan->job), RT_STEP_LIMITS);
    must(rights_drop() && parent_lives(), RT_STEP_RIGHTS);
    must(filter_set(plan), RT_STEP_FILTER);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    must(tell(RT_STEP_PYTHON, 0), RT_STEP_PYTHON);
    execve(plan->arguments[0], plan->arguments, plan->environment);
    give_up(RT_STEP_PYTHON);
}

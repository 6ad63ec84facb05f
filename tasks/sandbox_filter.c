/* sandbox_filter: which system calls a program in the sandbox may make, as BPF for seccomp. */
#include "tasks/sandbox_child.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/syscall.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#endif

/* Everything that is not listed is refused: mount, ptrace, bpf, keyctl, unshare, setns, io_uring,
 * userfaultfd, perf_event_open, kexec, sockets, other processes and their memory, identities, memory
 * that no limit counts (memfd, System V shared memory) and all that is not known yet. */
static const int allowed[] = {
    SYS_read, SYS_write, SYS_futex, SYS_mmap, SYS_munmap, SYS_brk, SYS_close, SYS_lseek, SYS_openat,
    SYS_fstat, SYS_newfstatat, SYS_getdents64, SYS_mprotect, SYS_mremap, SYS_madvise, SYS_readv,
    SYS_writev, SYS_pread64, SYS_pwrite64, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_rt_sigpending, SYS_rt_sigsuspend, SYS_rt_sigtimedwait, SYS_sigaltstack, SYS_restart_syscall,
    SYS_clock_gettime, SYS_clock_getres, SYS_clock_nanosleep, SYS_nanosleep, SYS_gettimeofday,
    SYS_times, SYS_getrusage, SYS_sysinfo, SYS_uname, SYS_getrandom, SYS_getpid, SYS_getppid,
    SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_getresuid, SYS_getresgid,
    SYS_getgroups, SYS_getpgid, SYS_getsid, SYS_getcwd, SYS_chdir, SYS_fchdir, SYS_mkdirat,
    SYS_unlinkat, SYS_renameat2, SYS_linkat, SYS_symlinkat, SYS_readlinkat, SYS_faccessat,
    SYS_faccessat2, SYS_statx, SYS_statfs, SYS_fstatfs, SYS_ftruncate, SYS_truncate, SYS_fallocate,
    SYS_fsync, SYS_fdatasync, SYS_umask, SYS_fchmod, SYS_fchmodat, SYS_utimensat, SYS_flock,
    SYS_fcntl, SYS_dup, SYS_dup3, SYS_pipe2, SYS_ppoll, SYS_pselect6, SYS_epoll_create1,
    SYS_epoll_ctl, SYS_epoll_pwait, SYS_eventfd2, SYS_setitimer, SYS_getitimer, SYS_prlimit64,
    SYS_getrlimit, SYS_setrlimit, SYS_set_robust_list, SYS_get_robust_list, SYS_set_tid_address,
    SYS_rseq, SYS_membarrier, SYS_sched_yield, SYS_sched_getaffinity, SYS_sched_getparam,
    SYS_sched_getscheduler, SYS_kill, SYS_tkill, SYS_tgkill, SYS_wait4, SYS_waitid, SYS_copy_file_range,
    SYS_sendfile, SYS_close_range, SYS_execve, SYS_exit, SYS_exit_group,
#if defined(__x86_64__)
    SYS_open, SYS_stat, SYS_lstat, SYS_access, SYS_readlink, SYS_mkdir, SYS_rmdir, SYS_unlink,
    SYS_rename, SYS_renameat, SYS_link, SYS_symlink, SYS_chmod, SYS_dup2, SYS_pipe, SYS_poll,
    SYS_select, SYS_epoll_create, SYS_epoll_wait, SYS_eventfd, SYS_time, SYS_alarm, SYS_pause,
    SYS_getpgrp, SYS_arch_prctl, SYS_utime, SYS_utimes,
#endif
};

/* Calls above are newer than this list: callers know how to do without where they are missing. */
enum { NEWEST = 450, X32 = 0x40000000 };

#ifdef ARCHITECTURE

static void add(rt_sandbox_plan *plan, struct sock_filter one)
{
    RT_ASSERT(plan->filter_count < RT_FILTER_MAX);
    plan->filter[plan->filter_count++] = one;
}

static void load(rt_sandbox_plan *plan, size_t offset)
{
    add(plan, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset));
}

static void answer(rt_sandbox_plan *plan, uint32_t action)
{
    add(plan, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, action));
}

/* The next instruction is only done where the loaded word compares so. */
static void when(rt_sandbox_plan *plan, uint16_t comparison, uint32_t value)
{
    add(plan, (struct sock_filter)BPF_JUMP((uint16_t)(BPF_JMP | comparison | BPF_K), value, 0, 1));
}

bool rt_sandbox_filter(rt_sandbox_plan *plan)
{
    /* A thread shares all with its process; the flags of a new process or namespace are refused. */
    const uint32_t thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    const uint32_t namespaces = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWNET |
                                CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    plan->filter_count = 0;
    load(plan, offsetof(struct seccomp_data, arch));
    add(plan, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0));
    answer(plan, SECCOMP_RET_KILL_PROCESS);
    load(plan, offsetof(struct seccomp_data, nr));
    when(plan, BPF_JGE, X32);
    answer(plan, SECCOMP_RET_ERRNO | EPERM);
    when(plan, BPF_JGT, NEWEST);
    answer(plan, SECCOMP_RET_ERRNO | ENOSYS);
    for (size_t i = 0; i < RT_COUNT(allowed); i++) {
        when(plan, BPF_JEQ, (uint32_t)allowed[i]);
        answer(plan, SECCOMP_RET_ALLOW);
    }
    when(plan, BPF_JEQ, SYS_ioctl); /* there is no terminal here */
    answer(plan, SECCOMP_RET_ERRNO | ENOTTY);
    when(plan, BPF_JEQ, SYS_clone3); /* its flags lie in memory; the C library falls back to clone */
    answer(plan, SECCOMP_RET_ERRNO | ENOSYS);
    add(plan, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_clone, 1, 0));
    answer(plan, SECCOMP_RET_ERRNO | EPERM);
    load(plan, offsetof(struct seccomp_data, args)); /* the low half: both CPUs are little-endian */
    add(plan, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, thread | namespaces));
    when(plan, BPF_JEQ, thread);
    answer(plan, SECCOMP_RET_ALLOW);
    answer(plan, SECCOMP_RET_ERRNO | EPERM);
    return true;
}

#else

bool rt_sandbox_filter(rt_sandbox_plan *plan)
{
    (void)plan, (void)allowed;
    return false;
}

#endif

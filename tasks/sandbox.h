/*
 * sandbox: one Python 3 program in a child process of its own that the kernel locks down: own user,
 * PID, mount, network, IPC, UTS and cgroup namespaces, a read-only view of what Python needs, a
 * small tmpfs as the only place to write, limits, no capabilities, a list of allowed system calls.
 * It is one process: it may start threads, no other process. No external tool is used. Linux 5.12
 * or newer, x86-64 or AArch64, user namespaces allowed.
 *
 * Threading: re-entrant; the call blocks its thread until the child is gone and reaped. If the
 * thread or the process dies, the kernel kills the child. Ownership: everything in a job is
 * borrowed.
 */
#ifndef RT_TASKS_SANDBOX_H
#define RT_TASKS_SANDBOX_H

#include "base/base.h"

enum { RT_SANDBOX_OUTPUT_MAX = 1 << 20, RT_SANDBOX_PROGRAM_MAX = 256 << 10 };

typedef struct rt_sandbox_job {
    const char *program; /* becomes /program.py, all of which the child can read */
    size_t program_bytes;
    const char *runner; /* Python text that is run in its place and may read /program.py, or NULL */
    const char *input;  /* what stdin gives, then its end */
    size_t input_bytes;
    double seconds;          /* by the clock; the limit of CPU seconds lies above it */
    int64_t memory_bytes;    /* of address space; 0: 1 GiB */
    const atomic_bool *stop; /* true: end early; or NULL */
} rt_sandbox_job;

enum rt_sandbox_end {
    RT_SANDBOX_EXIT,    /* status: its exit code */
    RT_SANDBOX_SIGNAL,  /* status: the signal; 9 also where a limit of CPU or memory was reached */
    RT_SANDBOX_TIME,    /* still running after `seconds` */
    RT_SANDBOX_OUTPUT,  /* more than RT_SANDBOX_OUTPUT_MAX bytes */
    RT_SANDBOX_STOPPED, /* *stop became true */
};

typedef struct rt_sandbox_result {
    int end, status;
    rt_buf output;   /* of stdout, at most RT_SANDBOX_OUTPUT_MAX; caller frees */
    char error[120]; /* last line on stderr, valid UTF-8 */
} rt_sandbox_result;

/* RT_OK: the program ran, to whatever end. Else nothing was judged and the sentence says why: no
 * Python, or the kernel refuses a part of the sandbox. Result is set in both cases. */
int rt_sandbox_run(const rt_sandbox_job *job, rt_sandbox_result *result, rt_error *err);
/* Runs a program of one line: can programs be judged on this machine? */
int rt_sandbox_ready(rt_error *err);

#endif

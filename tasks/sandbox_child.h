/*
 * sandbox_child: what the parent prepares for the child of a sandbox. The child is a copy of one
 * thread of a process with many: until it becomes Python it makes system calls and nothing else.
 */
#ifndef RT_TASKS_SANDBOX_CHILD_H
#define RT_TASKS_SANDBOX_CHILD_H

#include <linux/filter.h>

#include "tasks/sandbox.h"

enum { RT_VIEW_MAX = 16, RT_FILTER_MAX = 512 };

typedef struct rt_view { /* something of the file system that the child sees, at the same place */
    char path[4096];
    char link[256]; /* not "": it is a symbolic link to this */
    bool folder;
} rt_view;

/* The child's own ends; any numbers, none below 10. */
typedef struct rt_sandbox_ends {
    int input, output, error;
    int report; /* the child tells what failed; closed by becoming Python */
    int life;   /* a byte: go; the end: the parent is gone */
} rt_sandbox_ends;

typedef struct rt_sandbox_plan {
    const rt_sandbox_job *job;
    rt_view views[RT_VIEW_MAX];
    int views_count;
    char *arguments[12], *environment[8];
    struct sock_filter filter[RT_FILTER_MAX];
    int filter_count;
    rt_sandbox_ends ends;
    bool drop_groups; /* the parent had the right to map groups */
} rt_sandbox_plan;

/* What failed in the child. Before it becomes Python it tells of RT_STEP_PYTHON and number 0. */
typedef struct rt_sandbox_report {
    int what, number; /* what: index into rt_sandbox_steps; number: errno */
} rt_sandbox_report;

enum rt_sandbox_step {
    RT_STEP_DESCRIPTORS,
    RT_STEP_VIEW,
    RT_STEP_USER,
    RT_STEP_ROOT,
    RT_STEP_LIMITS,
    RT_STEP_RIGHTS,
    RT_STEP_FILTER,
    RT_STEP_PYTHON,
    RT_STEPS_COUNT
};
extern const char *const rt_sandbox_steps[RT_STEPS_COUNT];

/* Users and groups of the child are this one; outside it is nobody, or who started us. */
enum { RT_SANDBOX_USER = 65534 };

_Noreturn void rt_sandbox_child(const rt_sandbox_plan *plan);
/* Fills the plan's filter; false: not for this CPU. */
bool rt_sandbox_filter(rt_sandbox_plan *plan);

#endif

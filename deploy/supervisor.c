#include "deploy/supervisor.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "proto/proto.h"

#define ROLES_MAX 514          /* coordinator, learner, actors.count and debate.count at largest */
#define ASK_MS 500
#define PLAIN_EVERY_MS 5000      /* progress lines where there is no terminal */
#define STOP_MS 1800             /* from Ctrl-C to the end, whatever hangs */
#define BACKOFF_MS 250
#define BACKOFF_MS_MAX 8000
#define BRING_BACK_MS 1000
#define FAILURES_MAX 5           /* short lives in a row until giving up */
#define SHORT_LIFE_MS 5000
#define SENTENCE "retake: "      /* begins the line in which a role says why it ends */

typedef struct child {
    struct supervisor *supervisor;
    const char *role;
    char name[32];
    uv_process_t process;
    uv_pipe_t pipe;              /* its stderr */
    uv_timer_t restart;
    rt_buf pending;              /* begin of a line */
    char last_line[400];
    bool alive, pipe_open;
    bool ended;                  /* and not yet dealt with: its last words come first */
    bool left;                   /* told to stop by the coordinator */
    int64_t status;
    int signal_number;
    int failures;                /* short lives in a row */
    int64_t started_ns;
} child;

typedef struct supervisor {
    const rt_config *config;
    const char *config_path;
    supervisor_result *result;
    uv_loop_t loop;
    void *zmq;
    rt_socket *stats;
    child children[ROLES_MAX];
    int children_count, alive;
    uv_timer_t ask, deadline;
    uv_signal_t signals[2];
    bool quiet, terminal, stopping, done, line_shown;
    int64_t said_ns;
    FILE *log;
} supervisor;

/* ---- talking to the person ---------------------------------------------------------------------- */

static void clear_line(supervisor *s)
{
    if (s->line_shown)
        fprintf(stderr, "\r\033[K");
    s->line_shown = false;
}

static void say(supervisor *s, const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    clear_line(s);
    fprintf(stderr, "%s\n", text);
    if (s->log) {
        fprintf(s->log, "%s\n", text);
        fflush(s->log);
    }
}

static void on_stats(void *context, rt_socket *socket, const rt_message *message)
{
    (void)socket;
    supervisor *s = context;
    if (message->frames_count < 1 || s->quiet || s->stopping)
        return;
    const rt_frame *frame = &message->frames[message->frames_count - 1];
    char line[400];
    if (!progress_line(frame->data, frame->bytes, line, sizeof line))
        return;
    int64_t now = rt_now_ns();
    if (s->terminal) {
        fprintf(stderr, "\r\033[K%s", line);
        s->line_shown = true;
    } else if (now - s->said_ns > (int64_t)PLAIN_EVERY_MS * 1000000) {
        fprintf(stderr, "%s\n", line);
        s->said_ns = now;
    }
}

static void ask(supervisor *s, const char *what)
{
    rt_frame frames[2] = {{"", 0}, {what, strlen(what)}};
    rt_socket_send_raw(s->stats, frames, 2, NULL);
}

static void on_ask(uv_timer_t *timer)
{
    ask(timer->data, "stats");
}

/* ---- children ------------------------------------------------------------------------------------- */

static void start(child *c);

static void end_all(supervisor *s, int signal_number)
{
    for (int i = 0; i < s->children_count; i++) {
        child *c = &s->children[i];
        uv_timer_stop(&c->restart);
        if (c->alive)
            uv_process_kill(&c->process, signal_number);
    }
}

static void finish_if_all_ended(supervisor *s)
{
    if (s->alive == 0 && (s->stopping || s->done))
        uv_stop(&s->loop);
}

static void on_deadline(uv_timer_t *timer)
{
    end_all(timer->data, SIGKILL);
}

/* No role may hang the end: after the grace period the rest is killed. */
static void begin_end(supervisor *s, uint64_t grace_ms)
{
    if (!uv_is_active((uv_handle_t *)&s->deadline))
        uv_timer_start(&s->deadline, on_deadline, grace_ms, 0);
    finish_if_all_ended(s);
}

/* A role's own sentence about its end: said once, by whoever ends the run or starts it again. */
static bool is_sentence(const char *line)
{
    return strncmp(line, SENTENCE, strlen(SENTENCE)) == 0;
}

static void give_up(supervisor *s, const child *c, const char *why, int exit_code)
{
    if (s->stopping || s->done)
        return;
    s->stopping = true;
    s->result->exit_code = exit_code;
    const char *said = is_sentence(c->last_line) ? c->last_line + strlen(SENTENCE) : c->last_line;
    rt_fail(&s->result->error, RT_ERR_STATE, "gave up: %s %s: %s", c->name, why,
            *said ? said : "it said nothing; see log.txt in the run folder");
    end_all(s, SIGTERM);
    begin_end(s, STOP_MS);
}

static void on_restart(uv_timer_t *timer)
{
    child *c = timer->data;
    if (!c->supervisor->stopping && !c->supervisor->done)
        start(c);
}

/* A coordinator that died between telling the others to stop and its own end: the next one needs
 * them again. */
static void bring_back(supervisor *s)
{
    const child *coordinator = &s->children[0];
    for (int i = 1; i < s->children_count; i++) {
        child *c = &s->children[i];
        if (c->left && (!coordinator->alive || coordinator->started_ns > c->started_ns))
            uv_timer_start(&c->restart, on_restart, BRING_BACK_MS, 0);
    }
}

static void restart_later(child *c, const char *how)
{
    supervisor *s = c->supervisor;
    bool short_life = rt_now_ns() - c->started_ns < (int64_t)SHORT_LIFE_MS * 1000000;
    c->failures = short_life ? c->failures + 1 : 1;
    if (c->failures >= FAILURES_MAX) {
        char why[64];
        snprintf(why, sizeof why, "died %d times in a row", c->failures);
        give_up(s, c, why, 1);
        return;
    }
    if (is_sentence(c->last_line))
        say(s, "%s", c->last_line);
    uint64_t wait = BACKOFF_MS;
    for (int i = 1; i < c->failures && wait < BACKOFF_MS_MAX; i++)
        wait *= 2;
    s->result->restarts++;
    say(s, "%s %s; starting it again in %.1f s", c->name, how, (double)wait / 1000);
    uv_timer_start(&c->restart, on_restart, wait, 0);
    bring_back(s);
}

static void coordinator_ended(supervisor *s, const child *c, int64_t status)
{
    if (status == 0) {
        s->done = true;
        begin_end(s, 3000);
    } else if (status == 130) {
        s->stopping = true;
        s->result->exit_code = 130;
        begin_end(s, STOP_MS);
    } else {
        give_up(s, c, "ended the run", status == 2 ? 2 : 1);
    }
}

/* The process has ended and all it said has been read. */
static void deal_with_end(child *c)
{
    supervisor *s = c->supervisor;
    if (!c->ended || c->pipe_open || s->stopping || s->done)
        return;
    c->ended = false;
    int64_t status = c->status;
    int signal_number = c->signal_number;
    char how[64];
    if (signal_number)
        snprintf(how, sizeof how, "was ended by signal %d", signal_number);
    else
        snprintf(how, sizeof how, "ended with exit code %d", (int)status);
    bool coordinator = strcmp(c->role, "coordinator") == 0;
    /* An exit code of a role's own choosing is an answer, a signal is an accident. */
    if (!signal_number && coordinator)
        coordinator_ended(s, c, status);
    else if (!signal_number && status == 2)
        give_up(s, c, "cannot work with this configuration", 2);
    else if (!signal_number && status == 0 && !coordinator) {
        c->left = true; /* the coordinator is about to end, too */
        bring_back(s);
    }
    else if (!signal_number && strcmp(c->role, "learner") == 0)
        give_up(s, c, "ended the run", 1);
    else
        restart_later(c, how);
}

static void on_child_exit(uv_process_t *process, int64_t status, int signal_number)
{
    child *c = process->data;
    supervisor *s = c->supervisor;
    c->alive = false;
    s->alive--;
    uv_close((uv_handle_t *)process, NULL);
    c->ended = true;
    c->status = status;
    c->signal_number = signal_number;
    deal_with_end(c);
    finish_if_all_ended(s);
}

static void on_allocate(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer)
{
    (void)handle;
    *buffer = uv_buf_init(rt_alloc(suggested), (unsigned)suggested);
}

static void take_line(child *c, const char *line, size_t bytes)
{
    if (bytes == 0)
        return;
    snprintf(c->last_line, sizeof c->last_line, "%.*s", (int)RT_MIN(bytes, 399), line);
    if (is_sentence(c->last_line))
        return;
    if (!c->supervisor->quiet || strstr(c->last_line, "error"))
        say(c->supervisor, "%s", c->last_line);
}

static void on_pipe_closed(uv_handle_t *handle)
{
    child *c = handle->data;
    c->pipe_open = false;
    deal_with_end(c);
}

static void on_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer)
{
    child *c = stream->data;
    if (count > 0)
        rt_buf_add(&c->pending, buffer->base, (size_t)count);
    rt_free(buffer->base);
    char *begin = c->pending.data, *newline;
    while (begin && (newline = strchr(begin, '\n'))) {
        take_line(c, begin, (size_t)(newline - begin));
        begin = newline + 1;
    }
    if (begin && begin != c->pending.data) {
        size_t left = c->pending.bytes - (size_t)(begin - c->pending.data);
        memmove(c->pending.data, begin, left + 1);
        c->pending.bytes = left;
    }
    if (count < 0) {
        take_line(c, c->pending.data ? c->pending.data : "", c->pending.bytes);
        rt_buf_clear(&c->pending);
        uv_close((uv_handle_t *)stream, on_pipe_closed);
    }
}

/* Environment of the children: passive waiting, and whom they must not outlive. */
static char **child_environment(void)
{
    extern char **environ;
    size_t count = 0;
    while (environ[count])
        count++;
    char **copy = rt_alloc((count + 2) * sizeof *copy);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++)
        if (strncmp(environ[i], "RETAKE_SUPERVISOR=", 18) != 0)
            copy[kept++] = environ[i];
    copy[kept] = rt_format("RETAKE_SUPERVISOR=%d", (int)getpid());
    return copy;
}

static void free_environment(char **copy)
{
    size_t i = 0;
    while (copy[i])
        i++;
    rt_free(copy[i - 1]);
    rt_free(copy);
}

static void start(child *c)
{
    supervisor *s = c->supervisor;
    uv_pipe_init(&s->loop, &c->pipe, 0);
    *c->last_line = '\0';
    c->pipe.data = c;
    c->process.data = c;
    char *arguments[] = {"retake", (char *)(uintptr_t)c->role, (char *)(uintptr_t)s->config_path,
                         "--run", s->config->run.dir, NULL, NULL, NULL};
    if (strcmp(c->role, "actor") == 0 || strcmp(c->role, "debate") == 0) {
        arguments[5] = "--name";
        arguments[6] = c->name;
    }
    uv_stdio_container_t stdio[3] = {
        {.flags = UV_IGNORE}, {.flags = UV_IGNORE},
        {.flags = UV_CREATE_PIPE | UV_WRITABLE_PIPE, .data.stream = (uv_stream_t *)&c->pipe},
    };
    char **environment = child_environment();
    /* A process group of its own: Ctrl-C reaches only the supervisor, which ends things in order. */
    uv_process_options_t options = {
        .file = "/proc/self/exe", .args = arguments, .env = environment, .stdio = stdio, .stdio_count = 3,
        .exit_cb = on_child_exit, .flags = UV_PROCESS_DETACHED,
    };
    int rc = uv_spawn(&s->loop, &c->process, &options);
    free_environment(environment);
    c->started_ns = rt_now_ns();
    if (rc != 0) {
        snprintf(c->last_line, sizeof c->last_line, "cannot start a process: %s", uv_strerror(rc));
        uv_close((uv_handle_t *)&c->process, NULL);
        uv_close((uv_handle_t *)&c->pipe, NULL);
        give_up(s, c, "did not start", 1);
        return;
    }
    c->alive = c->pipe_open = true;
    c->left = false;
    s->alive++;
    uv_read_start((uv_stream_t *)&c->pipe, on_allocate, on_read);
}

static void add_child(supervisor *s, const char *role, int number)
{
    child *c = &s->children[s->children_count++];
    c->supervisor = s;
    c->role = role;
    if (number < 0)
        snprintf(c->name, sizeof c->name, "%s", role);
    else
        snprintf(c->name, sizeof c->name, "%s-%d", role, number);
    uv_timer_init(&s->loop, &c->restart);
    c->restart.data = c;
}

/* ---- Ctrl-C ------------------------------------------------------------------------------------------ */

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    supervisor *s = handle->data;
    if (s->stopping) { /* asked twice */
        end_all(s, SIGKILL);
        return;
    }
    say(s, "stopping: saving the state (again to end at once)");
    s->stopping = true;
    s->result->exit_code = 130;
    for (int i = 0; i < s->children_count; i++) {
        child *c = &s->children[i];
        uv_timer_stop(&c->restart);
        /* The coordinator stops the others in order; without it each is told itself. */
        if (c->alive && (i == 0 || !s->children[0].alive))
            uv_process_kill(&c->process, SIGTERM);
    }
    begin_end(s, STOP_MS);
}

static int open_stats(supervisor *s, rt_error *err)
{
    rt_buf endpoint = {0};
    int rc = rt_endpoint(s->config, "stats", false, &endpoint, err);
    rt_socket_options options = {.type = ZMQ_DEALER, .endpoint = endpoint.data, .raw = true,
                                 .on_message = on_stats, .context = s};
    if (rc == 0)
        rc = rt_socket_open(&s->stats, &s->loop, s->zmq, &options, err);
    rt_buf_free(&endpoint);
    return rc;
}

static void close_all(supervisor *s)
{
    uv_close((uv_handle_t *)&s->ask, NULL);
    uv_close((uv_handle_t *)&s->deadline, NULL);
    for (int i = 0; i < 2; i++)
        uv_close((uv_handle_t *)&s->signals[i], NULL);
    for (int i = 0; i < s->children_count; i++)
        uv_close((uv_handle_t *)&s->children[i].restart, NULL);
    if (s->stats)
        rt_socket_close(&s->stats, 0);
    uv_run(&s->loop, UV_RUN_DEFAULT);
    uv_loop_close(&s->loop);
    zmq_ctx_term(s->zmq);
    for (int i = 0; i < s->children_count; i++)
        rt_buf_free(&s->children[i].pending);
    if (s->log)
        fclose(s->log);
}

void supervisor_run(const rt_config *config, const char *config_path, bool quiet,
                    supervisor_result *result)
{
    supervisor *s = rt_alloc(sizeof *s);
    *result = (supervisor_result){0};
    s->config = config;
    s->config_path = config_path;
    s->result = result;
    s->quiet = quiet;
    s->terminal = isatty(STDERR_FILENO);
    s->zmq = zmq_ctx_new();
    char *log = rt_format("%s/log.txt", config->run.dir);
    s->log = fopen(log, "ae");
    rt_free(log);
    uv_loop_init(&s->loop);
    uv_timer_init(&s->loop, &s->ask);
    uv_timer_init(&s->loop, &s->deadline);
    s->ask.data = s->deadline.data = s;
    for (int i = 0; i < 2; i++) {
        uv_signal_init(&s->loop, &s->signals[i]);
        s->signals[i].data = s;
        uv_signal_start(&s->signals[i], on_signal, i == 0 ? SIGINT : SIGTERM);
    }
    int rc = open_stats(s, &result->error);
    if (rc == 0) {
        add_child(s, "coordinator", -1);
        add_child(s, "learner", -1);
        for (int i = 0; i < config->actors.count && s->children_count < ROLES_MAX; i++)
            add_child(s, "actor", i);
        for (int i = 0; i < config->debate.count && s->children_count < ROLES_MAX; i++)
            add_child(s, "debate", i);
        for (int i = 0; i < s->children_count; i++)
            start(&s->children[i]);
        uv_timer_start(&s->ask, on_ask, ASK_MS, ASK_MS);
        uv_run(&s->loop, UV_RUN_DEFAULT);
        clear_line(s);
    } else {
        result->exit_code = rt_exit_code(rc);
    }
    close_all(s);
    rt_free(s);
}

/*
 * store: the run store's writer. The loop thread packs rows and pushes them into a ring; one
 * writer thread lets some gather and puts all that is waiting into one transaction (one for each row
 * costs the loop a wake-up, and the machine that also samples several times the work). A slow disk
 * makes the queue longer, never the loop slower. When the disk refuses, the writer stops and keeps the
 * sentence why.
 */
#include <math.h>
#include <pthread.h>
#include <string.h>

#include "coordinator/internal.h"

#define RING_ROWS (1 << 16)
#define ROWS_PER_TRANSACTION 4096
#define GATHER_ROWS 256 /* so many are written at once, fewer when the first of them … */
#define GATHER_MS 20    /* … has waited so long, or somebody waits for the commit */

enum value_kind { VALUE_NULL, VALUE_INT, VALUE_REAL, VALUE_TEXT, VALUE_BLOB };

typedef struct value {
    int kind;
    union {
        int64_t integer;
        double real;
        struct {
            void *data;
            size_t bytes;
        } bytes;
    } as;
} value;

struct rt_store_row {
    int table, count;
    struct rt_store_row *next;
    value values[RT_COLUMNS_MAX];
};

struct rt_store {
    sqlite3 *db;
    char *path;
    rt_ring *ring;
    rt_store_row *late_head,
        *late_tail; /* loop thread: what the full ring did not take, in order */
    size_t late_count;
    sqlite3_stmt *insert[RT_TABLES];
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t wake, written_more;
    bool asleep, hurry;      /* under lock: no row is here; the commit is waited for */
    size_t put;              /* rows, ever; loop thread */
    atomic_size_t committed; /* of them, or dropped after a failure */
    atomic_bool closing, failed;
    rt_error error; /* under lock */
    rt_store_failed_fn *on_failed;
    void *context;
};

/* ---- rows ------------------------------------------------------------------------------------ */

rt_store_row *rt_store_row_new(int table)
{
    rt_store_row *row = rt_alloc(sizeof *row);
    row->table = table;
    return row;
}

static value *next_value(rt_store_row *row, int kind)
{
    RT_ASSERT(row->count < rt_table_form_of(row->table)->count);
    value *next = &row->values[row->count++];
    next->kind = kind;
    return next;
}

void rt_store_row_int(rt_store_row *row, int64_t integer)
{
    next_value(row, VALUE_INT)->as.integer = integer;
}

void rt_store_row_real(rt_store_row *row, double real)
{
    if (isfinite(real)) {
        next_value(row, VALUE_REAL)->as.real = real;
    } else {
        next_value(row, VALUE_NULL);
    }
}

static void put_bytes(rt_store_row *row, int kind, const void *data, size_t bytes)
{
    value *next = next_value(row, kind);
    next->as.bytes.data = rt_alloc(bytes + 1);
    next->as.bytes.bytes = bytes;
    if (bytes > 0) {
        memcpy(next->as.bytes.data, data, bytes);
    }
}

void rt_store_row_text(rt_store_row *row, const char *text)
{
    if (text) {
        put_bytes(row, VALUE_TEXT, text, strlen(text));
    } else {
        next_value(row, VALUE_NULL);
    }
}

void rt_store_row_blob(rt_store_row *row, const void *data, size_t bytes)
{
    put_bytes(row, VALUE_BLOB, data, bytes);
}

void rt_store_row_null(rt_store_row *row)
{
    next_value(row, VALUE_NULL);
}

static void free_row(rt_store_row *row)
{
    for (int i = 0; i < row->count; i++) {
        if (row->values[i].kind >= VALUE_TEXT) {
            rt_free(row->values[i].as.bytes.data);
        }
    }
    rt_free(row);
}

/* ---- writer thread --------------------------------------------------------------------------- */

static const char *remedy(int code)
{
    switch (code & 0xff) {
    case SQLITE_FULL:
        return "free some space and start the run again on the same folder";
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_CANTOPEN:
    case SQLITE_AUTH:
        return "change the permissions of the run folder or choose another with --run";
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return "it is damaged: move it away or choose another folder with --run";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return "another program has locked it: end that program";
    default:
        return "check the disk and the folder";
    }
}

static int sql_fail(rt_store *store, int code, const char *verb, rt_error *err)
{
    return rt_fail(err, RT_ERR_IO, "cannot %s the run store %s: %s; %s", verb, store->path,
                   sqlite3_errstr(code), remedy(code));
}

static int bind_value(sqlite3_stmt *insert, int column, const value *what)
{
    switch (what->kind) {
    case VALUE_INT:
        return sqlite3_bind_int64(insert, column, what->as.integer);
    case VALUE_REAL:
        return sqlite3_bind_double(insert, column, what->as.real);
    case VALUE_TEXT:
        return sqlite3_bind_text64(insert, column, what->as.bytes.data, what->as.bytes.bytes,
                                   SQLITE_STATIC, SQLITE_UTF8);
    case VALUE_BLOB:
        return sqlite3_bind_blob64(insert, column, what->as.bytes.data, what->as.bytes.bytes,
                                   SQLITE_STATIC);
    default:
        return sqlite3_bind_null(insert, column);
    }
}

static int prepare_insert(rt_store *store, int table)
{
    const rt_table_form *form = rt_table_form_of(table);
    if (table == RT_TABLE_FATES) {
        return sqlite3_prepare_v2(store->db, "UPDATE trajectories SET fate = ?2 "
                                             "WHERE step = ?1 AND fate IS NULL",
                                  -1, &store->insert[table], NULL);
    }
    rt_buf sql = {0};
    rt_buf_addf(&sql, "INSERT OR REPLACE INTO %s VALUES (", form->name);
    for (int i = 0; i < form->count; i++) {
        rt_buf_addf(&sql, i ? ",?" : "?");
    }
    rt_buf_addf(&sql, ")");
    int code = sqlite3_prepare_v2(store->db, sql.data, -1, &store->insert[table], NULL);
    rt_buf_free(&sql);
    return code;
}

static int write_row(rt_store *store, const rt_store_row *row)
{
    RT_ASSERT(row->count == rt_table_form_of(row->table)->count);
    if (!store->insert[row->table]) {
        int code = prepare_insert(store, row->table);
        if (code != SQLITE_OK) {
            return code;
        }
    }
    sqlite3_stmt *insert = store->insert[row->table];
    int code = SQLITE_OK;
    for (int i = 0; i < row->count && code == SQLITE_OK; i++) {
        code = bind_value(insert, i + 1, &row->values[i]);
    }
    if (code == SQLITE_OK) {
        code = sqlite3_step(insert);
    }
    sqlite3_reset(insert);
    return code == SQLITE_DONE ? SQLITE_OK : code;
}

static void writer_fails(rt_store *store, int code)
{
    pthread_mutex_lock(&store->lock);
    sql_fail(store, code, "write to", &store->error);
    pthread_mutex_unlock(&store->lock);
    atomic_store(&store->failed, true);
    store->on_failed(store->context);
}

/* Writes what the ring holds in one transaction; rows are freed either way. Returns how many. */
static int write_waiting(rt_store *store)
{
    int count = 0, code = SQLITE_OK;
    bool lost = atomic_load(&store->failed); /* after a failure rows are only taken and dropped */
    rt_store_row *row = NULL;
    while (count < ROWS_PER_TRANSACTION && (row = rt_ring_pop(store->ring))) {
        if (count++ == 0 && !lost) {
            code = sqlite3_exec(store->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
        }
        if (code == SQLITE_OK && !lost) {
            code = write_row(store, row);
        }
        free_row(row);
    }
    if (count > 0 && !lost) {
        if (code == SQLITE_OK) {
            code = sqlite3_exec(store->db, "COMMIT", NULL, NULL, NULL);
        }
        if (code != SQLITE_OK) {
            sqlite3_exec(store->db, "ROLLBACK", NULL, NULL, NULL);
            writer_fails(store, code);
        }
    }
    if (count > 0) {
        pthread_mutex_lock(&store->lock);
        atomic_fetch_add(&store->committed, (size_t)count);
        pthread_cond_signal(&store->written_more);
        pthread_mutex_unlock(&store->lock);
    }
    return count;
}

static struct timespec gather_end(void)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_nsec += GATHER_MS * 1000000L;
    at.tv_sec += at.tv_nsec / 1000000000;
    at.tv_nsec %= 1000000000;
    return at;
}

static void wait_for_rows(rt_store *store)
{
    pthread_mutex_lock(&store->lock);
    store->asleep = true;
    while (rt_ring_count(store->ring) == 0 && !atomic_load(&store->closing)) {
        pthread_cond_wait(&store->wake, &store->lock);
    }
    store->asleep = false;
    struct timespec end = gather_end();
    int code = 0;
    while (code == 0 && rt_ring_count(store->ring) < GATHER_ROWS && !store->hurry &&
           !atomic_load(&store->closing)) {
        code = pthread_cond_timedwait(&store->wake, &store->lock, &end);
    }
    pthread_mutex_unlock(&store->lock);
}

static void *writer_main(void *context)
{
    rt_store *store = context;
    for (;;) {
        /* Read before draining: rows pushed before the closing flag are all written. */
        bool closing = atomic_load(&store->closing);
        while (write_waiting(store) > 0) {
        }
        if (closing) {
            return NULL;
        }
        wait_for_rows(store);
    }
}

/* ---- loop thread ----------------------------------------------------------------------------- */

/* When there is reason to: the first row is here, enough are, or it must not wait. */
static void wake_writer(rt_store *store, bool now)
{
    pthread_mutex_lock(&store->lock);
    if (now || store->asleep || rt_ring_count(store->ring) >= GATHER_ROWS) {
        pthread_cond_signal(&store->wake);
    }
    pthread_mutex_unlock(&store->lock);
}

static void push_late(rt_store *store)
{
    while (store->late_head) {
        /* Read first: once pushed, the row is the writer's. */
        rt_store_row *row = store->late_head, *next = row->next;
        if (!rt_ring_push(store->ring, row)) {
            return;
        }
        store->late_head = next;
        store->late_count--;
    }
    store->late_tail = NULL;
}

/* The writer drains the ring by itself; what did not fit is pushed as room appears. */
static void push_all(rt_store *store)
{
    while (store->late_head) {
        push_late(store);
        wake_writer(store, true);
        struct timespec pause = {.tv_nsec = 1000000};
        nanosleep(&pause, NULL);
    }
}

void rt_store_put(rt_store *store, rt_store_row *row)
{
    store->put++;
    push_late(store);
    if (store->late_head || !rt_ring_push(store->ring, row)) {
        if (store->late_tail) {
            store->late_tail->next = row;
        } else {
            store->late_head = row;
        }
        store->late_tail = row;
        store->late_count++;
    }
    if (store->started) {
        wake_writer(store, false);
    }
}

int rt_store_flush(rt_store *store, rt_error *err)
{
    RT_ASSERT(store->started);
    push_all(store);
    pthread_mutex_lock(&store->lock);
    store->hurry = true;
    pthread_cond_signal(&store->wake);
    while (atomic_load(&store->committed) < store->put) {
        pthread_cond_wait(&store->written_more, &store->lock);
    }
    store->hurry = false;
    pthread_mutex_unlock(&store->lock);
    return rt_store_failure(store, err);
}

size_t rt_store_waiting(const rt_store *store)
{
    return rt_ring_count(store->ring) + store->late_count;
}

int rt_store_failure(rt_store *store, rt_error *err)
{
    if (!atomic_load(&store->failed)) {
        return RT_OK;
    }
    pthread_mutex_lock(&store->lock);
    *err = store->error;
    pthread_mutex_unlock(&store->lock);
    return err->code;
}

/* ---- opening and closing --------------------------------------------------------------------- */

sqlite3 *rt_store_database(rt_store *store)
{
    RT_ASSERT(!store->started);
    return store->db;
}

static int open_database(rt_store *store, rt_error *err)
{
    int code =
        sqlite3_open_v2(store->path, &store->db,
                        SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK) {
        sqlite3_busy_timeout(store->db, 5000);
        code = sqlite3_exec(store->db, "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL", NULL,
                            NULL, NULL);
    }
    if (code != SQLITE_OK) {
        return sql_fail(store, code, "open", err);
    }
    return rt_store_schema(store->db, err);
}

int rt_store_open(rt_store **out, const char *dir, rt_past *past, rt_error *err)
{
    *out = NULL;
    *past = (rt_past){0};
    int rc = rt_mkdirs(dir, err);
    if (rc) {
        return rc;
    }
    rt_store *store = rt_alloc(sizeof *store);
    store->path = rt_format("%s/run.db", dir);
    store->ring = rt_ring_new(RING_ROWS);
    pthread_mutex_init(&store->lock, NULL);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&store->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    pthread_cond_init(&store->written_more, NULL);
    rc = open_database(store, err);
    if (!rc) {
        rc = rt_past_load(store, past, err);
    }
    if (rc) {
        rt_store_close(&store, NULL);
        return rc;
    }
    *out = store;
    return RT_OK;
}

int rt_store_start(rt_store *store, rt_store_failed_fn *failed, void *context, rt_error *err)
{
    RT_ASSERT(!store->started);
    store->on_failed = failed;
    store->context = context;
    int code = pthread_create(&store->thread, NULL, writer_main, store);
    if (code) {
        return rt_fail(err, RT_ERR_NOMEM, "cannot start the thread that writes the run store: %s",
                       strerror(code));
    }
    store->started = true;
    return RT_OK;
}

static void finish_writer(rt_store *store)
{
    push_all(store);
    atomic_store(&store->closing, true);
    wake_writer(store, true);
    pthread_join(store->thread, NULL);
}

int rt_store_close(rt_store **pointer, rt_error *err)
{
    rt_store *store = *pointer;
    if (!store) {
        return RT_OK;
    }
    if (store->started) {
        finish_writer(store);
    }
    rt_store_row *row = NULL;
    while ((row = rt_ring_pop(store->ring))) {
        free_row(row);
    }
    rt_error why = {0};
    int rc = rt_store_failure(store, &why);
    if (rc && err) {
        *err = why;
    }
    for (int i = 0; i < RT_TABLES; i++) {
        sqlite3_finalize(store->insert[i]);
    }
    sqlite3_close(store->db);
    pthread_mutex_destroy(&store->lock);
    pthread_cond_destroy(&store->wake);
    pthread_cond_destroy(&store->written_more);
    rt_ring_free(&store->ring);
    rt_free(store->path);
    rt_free(store);
    *pointer = NULL;
    return rc;
}

/*
 * peek: what the shell tests cannot do by themselves.
 *   peek json PATH < file     value at a dotted path; "#" is a list's length, "+" the sum of its numbers
 *   peek sql DATABASE QUERY   rows, columns separated by "|"
 *   peek ask ENDPOINT COUNT   asks a stats socket, one connection; prints the median answer time in us
 *   peek listen               takes a free TCP port of this machine, prints it, holds it until killed
 */
#include <arpa/inet.h>
#include <jansson.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <zmq.h>

static const json_t *descend(const json_t *value, char *path)
{
    for (char *key = strtok(path, "."); key && value; key = strtok(NULL, "."))
        value = json_is_array(value) ? json_array_get(value, (size_t)strtoul(key, NULL, 10))
                                     : json_object_get(value, key);
    return value;
}

static double sum(json_t *value)
{
    double total = 0;
    const char *key;
    json_t *item;
    size_t i;
    json_object_foreach(value, key, item)
        total += json_number_value(item);
    json_array_foreach(value, i, item)
        total += json_number_value(item);
    return total;
}

static int peek_json(const char *given)
{
    char path[256];
    snprintf(path, sizeof path, "%s", given);
    size_t bytes = strlen(path);
    char last = bytes > 0 && strchr("#+", path[bytes - 1]) ? path[bytes - 1] : '\0';
    if (last)
        path[bytes - 1] = '\0';
    json_t *root = json_loadf(stdin, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    const json_t *value = descend(root, path);
    if (!value)
        return 1;
    if (last == '#')
        printf("%zu\n", json_is_array(value) ? json_array_size(value) : json_object_size(value));
    else if (last == '+')
        printf("%.12g\n", sum((json_t *)(size_t)value));
    else if (json_is_string(value))
        fwrite(json_string_value(value), 1, json_string_length(value), stdout), printf("\n");
    else
        json_dumpf(value, stdout, JSON_ENCODE_ANY | JSON_COMPACT), printf("\n");
    json_decref(root);
    return 0;
}

static int print_row(void *context, int count, char **values, char **names)
{
    (void)context, (void)names;
    for (int i = 0; i < count; i++)
        printf("%s%s", i ? "|" : "", values[i] ? values[i] : "");
    printf("\n");
    return 0;
}

static int peek_sql(const char *path, const char *sql)
{
    sqlite3 *db;
    char *message = NULL;
    int rc = sqlite3_open_v2(path, &db, SQLITE_OPEN_READONLY, NULL);
    if (rc == SQLITE_OK) {
        sqlite3_busy_timeout(db, 5000);
        rc = sqlite3_exec(db, sql, print_row, NULL, &message);
    }
    if (rc != SQLITE_OK)
        fprintf(stderr, "%s: %s\n", path, message ? message : sqlite3_errmsg(db));
    sqlite3_free(message);
    sqlite3_close(db);
    return rc != SQLITE_OK;
}

static int by_size(const void *a, const void *b)
{
    return (*(const int *)a > *(const int *)b) - (*(const int *)a < *(const int *)b);
}

static int now_us(const struct timespec *since)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int)((now.tv_sec - since->tv_sec) * 1000000 + (now.tv_nsec - since->tv_nsec) / 1000);
}

static int peek_ask(const char *endpoint, int count)
{
    int times[1000], linger = 0, timeout_ms = 5000, answered = 0;
    void *zmq = zmq_ctx_new(), *socket = zmq_socket(zmq, ZMQ_REQ);
    zmq_setsockopt(socket, ZMQ_LINGER, &linger, sizeof linger);
    zmq_setsockopt(socket, ZMQ_RCVTIMEO, &timeout_ms, sizeof timeout_ms);
    if (zmq_connect(socket, endpoint) == 0) {
        for (; answered < count && answered < 1000; answered++) {
            char answer[1 << 16];
            struct timespec begun;
            clock_gettime(CLOCK_MONOTONIC, &begun);
            if (zmq_send(socket, "stats", 5, 0) < 0 || zmq_recv(socket, answer, sizeof answer, 0) <= 0)
                break;
            times[answered] = now_us(&begun);
        }
    }
    zmq_close(socket);
    zmq_ctx_term(zmq);
    if (answered == 0)
        return 1;
    qsort(times, (size_t)answered, sizeof times[0], by_size);
    printf("%d\n", times[answered / 2]);
    return 0;
}

static int listen_forever(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t bytes = sizeof address;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, bytes) != 0 || listen(fd, 1) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &bytes) != 0)
        return 1;
    printf("%d\n", ntohs(address.sin_port));
    fflush(stdout);
    pause();
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "json") == 0)
        return peek_json(argv[2]);
    if (argc == 4 && strcmp(argv[1], "sql") == 0)
        return peek_sql(argv[2], argv[3]);
    if (argc == 4 && strcmp(argv[1], "ask") == 0)
        return peek_ask(argv[2], (int)strtol(argv[3], NULL, 10));
    if (argc == 2 && strcmp(argv[1], "listen") == 0)
        return listen_forever();
    fprintf(stderr, "usage: peek json PATH | sql DATABASE QUERY | ask ENDPOINT COUNT | listen\n");
    return 2;
}

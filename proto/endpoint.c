/* Where the sockets of a run are: every role derives the same names from the same config. */
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "proto/proto.h"

static const char *const NAMES[] = {"work", "blob", "learner", "stats", "events"};

static int index_of(const char *which)
{
    for (int i = 0; i < (int)RT_COUNT(NAMES); i++)
        if (strcmp(NAMES[i], which) == 0)
            return i;
    return -1;
}

/* A folder in /tmp could have been put there by another user: it must be ours alone. */
static int private_folder(const char *path, rt_error *err)
{
    if (mkdir(path, 0700) != 0 && errno != EEXIST)
        return rt_fail(err, RT_ERR_IO, "cannot make the folder %s for sockets: %s", path,
                       strerror(errno));
    struct stat info;
    if (lstat(path, &info) != 0 || !S_ISDIR(info.st_mode) || info.st_uid != geteuid() ||
        (info.st_mode & 022))
        return rt_fail(err, RT_ERR_USAGE,
                       "%s is not a folder of ours alone; remove it or set a shorter run.dir", path);
    return RT_OK;
}

static int endpoint_ipc(const rt_config *config, const char *which, rt_buf *out, rt_error *err)
{
    if (!config->run.dir || !*config->run.dir)
        return rt_fail(err, RT_ERR_USAGE,
                       "run.dir is not set: the roles of a run meet in its folder; set run.dir or "
                       "coordinator.address");
    int code = rt_mkdirs(config->run.dir, err);
    if (code != RT_OK)
        return code;
    char real[PATH_MAX];
    if (!realpath(config->run.dir, real))
        return rt_fail(err, RT_ERR_IO, "cannot find the folder %s: %s", config->run.dir,
                       strerror(errno));
    const size_t room = sizeof(((struct sockaddr_un *)0)->sun_path);
    rt_buf_clear(out);
    rt_buf_addf(out, "ipc://%s/%s.sock", real, which);
    if (out->bytes - strlen("ipc://") < room)
        return RT_OK;
    char hex[33], folder[64];
    rt_hash_hex(rt_hash(real, strlen(real)), hex);
    snprintf(folder, sizeof(folder), "/tmp/retake-%u-%.16s", (unsigned)geteuid(), hex);
    code = private_folder(folder, err);
    if (code != RT_OK)
        return code;
    rt_buf_clear(out);
    rt_buf_addf(out, "ipc://%s/%s.sock", folder, which);
    return RT_OK;
}

static bool any_host(const char *host)
{
    return strcmp(host, "*") == 0 || strcmp(host, "0.0.0.0") == 0;
}

/* libzmq binds to numbers and interfaces only, a config names a host: resolve it here. */
static int host_to_bind(const char *host, char number[64], rt_error *err)
{
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found = NULL;
    const int code = getaddrinfo(host, NULL, &hints, &found);
    if (code != 0 || !found)
        return rt_fail(err, RT_ERR_USAGE,
                       "coordinator.address: host '%s' is not known (%s); name a host or an address "
                       "of this machine, or * for all",
                       host, gai_strerror(code));
    const int named = getnameinfo(found->ai_addr, found->ai_addrlen, number, 64, NULL, 0,
                                  NI_NUMERICHOST);
    freeaddrinfo(found);
    return named == 0 ? RT_OK
                      : rt_fail(err, RT_ERR_IO, "cannot resolve host '%s': %s", host,
                                gai_strerror(named));
}

static int endpoint_tcp(const rt_config *config, int index, bool bind, rt_buf *out, rt_error *err)
{
    const char *address = config->coordinator.address;
    if (strncmp(address, "tcp://", 6) != 0 || !address[6])
        return rt_fail(err, RT_ERR_USAGE,
                       "coordinator.address is '%s'; it must be tcp://HOST, or empty for a run on one "
                       "machine",
                       address);
    const char *host = address + 6;
    if (strchr(host, ':') || strchr(host, '/'))
        return rt_fail(err, RT_ERR_USAGE,
                       "coordinator.address is '%s'; give only tcp://HOST and set coordinator.port",
                       address);
    const int64_t port = config->coordinator.port + index;
    if (port < 1 || port > 65535)
        return rt_fail(err, RT_ERR_USAGE,
                       "coordinator.port is %lld; a run takes %d ports from it on, up to 65535",
                       (long long)config->coordinator.port, (int)RT_COUNT(NAMES));
    char number[64] = "127.0.0.1";
    if (any_host(host)) {
        if (bind)
            snprintf(number, sizeof(number), "*");
        host = number;
    } else if (bind) {
        const int code = host_to_bind(host, number, err);
        if (code != RT_OK)
            return code;
        host = number;
    }
    rt_buf_clear(out);
    rt_buf_addf(out, "tcp://%s:%lld", host, (long long)port);
    return RT_OK;
}

int rt_endpoint(const rt_config *config, const char *which, bool bind, rt_buf *out, rt_error *err)
{
    const int index = index_of(which);
    if (index < 0)
        return rt_fail(err, RT_ERR_USAGE, "no socket is named '%s'", which);
    if (!config->coordinator.address || !*config->coordinator.address)
        return endpoint_ipc(config, which, out, err);
    return endpoint_tcp(config, index, bind, out, err);
}

/* file: whole files in, whole files out, and folders. */
#include "base/base.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What a person can do about it. */
static const char *remedy(int number)
{
    switch (number) {
    case ENOENT:
        return "check the path";
    case EACCES:
    case EPERM:
    case EROFS:
        return "change the permissions or choose another folder";
    case ENOSPC:
    case EDQUOT:
        return "free some space or choose another folder";
    case EISDIR:
    case ENOTDIR:
        return "check which part of the path is a folder";
    case EMFILE:
    case ENFILE:
        return "raise the limit of open files (ulimit -n)";
    default:
        return "check the disk and the path";
    }
}

static int fail_errno(rt_error *err, const char *verb, const char *path, int number)
{
    return rt_fail(err, RT_ERR_IO, "cannot %s %s: %s; %s", verb, path, strerror(number),
                   remedy(number));
}

int rt_map_open(rt_map *map, const char *path, rt_error *err)
{
    *map = (rt_map){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail_errno(err, "open", path, errno);
    }
    struct stat info;
    int number = 0;
    if (fstat(fd, &info) != 0) {
        number = errno;
    } else if (S_ISDIR(info.st_mode)) {
        number = EISDIR;
    } else if (!S_ISREG(info.st_mode)) {
        number = EINVAL;
    } else if (info.st_size > 0) {
        void *data = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (data == MAP_FAILED) {
            number = errno;
        } else {
            map->data = data;
            map->bytes = (size_t)info.st_size;
        }
    }
    close(fd);
    return number ? fail_errno(err, "map", path, number) : RT_OK;
}

void rt_map_close(rt_map *map)
{
    if (map->data) {
        munmap((void *)(uintptr_t)map->data, map->bytes);
    }
    *map = (rt_map){0};
}

int rt_file_read(const char *path, size_t bytes_max, rt_buf *out, rt_error *err)
{
    rt_buf_clear(out);
    rt_buf_add(out, "", 0); /* an empty file is a text too */
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return fail_errno(err, "open", path, errno);
    }
    char *chunk = rt_alloc(65536);
    int code = RT_OK;
    for (;;) {
        ssize_t got = read(fd, chunk, 65536);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0) {
            code = fail_errno(err, "read", path, errno);
            break;
        }
        if (got == 0) {
            break;
        }
        if ((size_t)got > bytes_max - out->bytes) {
            code = rt_fail(err, RT_ERR_LIMIT, "%s is larger than the %zu bytes allowed here", path,
                           bytes_max);
            break;
        }
        rt_buf_add(out, chunk, (size_t)got);
    }
    rt_free(chunk);
    close(fd);
    if (code != RT_OK) {
        rt_buf_clear(out);
    }
    return code;
}

/* 0, or the errno that stopped it. */
static int write_all(int fd, const char *data, size_t bytes)
{
    while (bytes > 0) {
        ssize_t done = write(fd, data, RT_MIN(bytes, (size_t)1 << 30));
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done < 0) {
            return errno;
        }
        data += done;
        bytes -= (size_t)done;
    }
    return 0;
}

/* The rename is durable only after the folder is. */
static int sync_folder(const char *path)
{
    const char *slash = strrchr(path, '/');
    char *folder = !slash          ? rt_strdup(".")
                   : slash == path ? rt_strdup("/")
                                   : rt_strndup(path, (size_t)(slash - path));
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int number = fd < 0 ? errno : 0;
    if (fd >= 0) {
        /* Some network file systems know no fsync of a folder: nothing to be gained there. */
        if (fsync(fd) != 0 && errno != EINVAL && errno != ENOTSUP) {
            number = errno;
        }
        close(fd);
    }
    rt_free(folder);
    return number;
}

int rt_file_write(const char *path, const void *data, size_t bytes, rt_error *err)
{
    /* A name of its own for each writer: two at once must not write into one file. */
    char *temporary = rt_format("%s.tmp-%ld-%llx", path, (long)getpid(),
                                (unsigned long long)rt_now_ns());
    int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        int number = errno;
        rt_free(temporary);
        return fail_errno(err, "write", path, number);
    }
    int number = write_all(fd, data, bytes);
    if (!number && fsync(fd) != 0) {
        number = errno;
    }
    if (close(fd) != 0 && !number) {
        number = errno;
    }
    if (!number && rename(temporary, path) != 0) {
        number = errno;
    }
    if (number) {
        unlink(temporary);
    } else {
        number = sync_folder(path);
    }
    rt_free(temporary);
    return number ? fail_errno(err, "write", path, number) : RT_OK;
}

int rt_mkdirs(const char *path, rt_error *err)
{
    char *part = rt_strdup(path);
    int number = 0;
    for (char *at = part; !number && *at; at++) {
        bool last = at[1] == '\0';
        if (!(last || (at[1] == '/' && at[0] != '/'))) {
            continue;
        }
        char kept = at[1];
        at[1] = '\0';
        if (mkdir(part, 0777) != 0) {
            number = errno;
            struct stat info;
            if (stat(part, &info) == 0) {
                number = S_ISDIR(info.st_mode) ? 0 : ENOTDIR;
            }
        }
        at[1] = kept;
    }
    rt_free(part);
    return number ? fail_errno(err, "make the folder", path, number) : RT_OK;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *place)
{
    (void)info;
    (void)kind;
    (void)place;
    return remove(path) != 0 && errno != ENOENT ? -1 : 0;
}

int rt_remove_tree(const char *path, rt_error *err)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
        return fail_errno(err, "remove", path, errno);
    }
    return RT_OK;
}

bool rt_file_exists(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0;
}

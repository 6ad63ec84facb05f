/* Preloaded: holds up the coordinator before its summary stands, while the file $LATE exists, so that a
 * script can kill it when all others have been told to stop. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef int rename_fn(const char *, const char *);

int rename(const char *from, const char *to)
{
    const char *late = getenv("LATE");
    for (int i = 0; late && strstr(to, "summary.json") && access(late, F_OK) == 0 && i < 3000; i++)
        usleep(10000);
    rename_fn *real = NULL;
    *(void **)&real = dlsym(RTLD_NEXT, "rename");
    return real(from, to);
}

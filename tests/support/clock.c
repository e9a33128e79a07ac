/* Preloaded into a process, adds the seconds in the file that HELD_CLOCK names to its monotonic clock. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long *added_s;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HELD_CLOCK");
    int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *seen = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (seen != MAP_FAILED)
        added_s = seen;
}

int clock_gettime(clockid_t clock, struct timespec *into) {
    int outcome = (int)syscall(SYS_clock_gettime, clock, into);
    if (outcome == 0 && added_s && (clock == CLOCK_MONOTONIC || clock == CLOCK_MONOTONIC_COARSE))
        into->tv_sec += *added_s;
    return outcome;
}

/* Lets calls of the native engine to libc fail when a test wants it.
 *
 * Each module of fastlb/native calls libc through addresses in a table of its own (the GOT, ELF
 * specification). hooks_set() puts ours there; the interpreter and other modules keep theirs. A hook
 * does the real call unless it is this call's turn to fail.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static _Atomic(const char *) failing = "";
static int failing_error;
static long failing_first, failing_times;
static atomic_long calls, failed;

/* What can fail. Hooks compare with a name from here: memory of the interpreter's may change under
 * another thread. */
static const char *const names[] = {
    "memory", "mmap", "socket", "connect", "accept4", "getsockname", "getsockopt", "setsockopt", "shutdown",
    "sendmsg", "epoll_ctl", "epoll_create1", "eventfd", "pipe2", "fcntl", "recv", "send", "splice",
    "epoll_wait", "io_uring_setup", "io_uring_enter",
};

/* From now on `times` calls of `name` fail with `error`, after `first` that do not. Returns 0 for a name
 * that is not known. */
int fail(const char *name, long first, long times, int error) {
    failing = "";
    failing_first = first;
    failing_times = times;
    failing_error = error;
    calls = failed = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i], name) == 0)
            failing = names[i];
    return *failing != 0;
}

long calls_failed(void) { return failed; }

/* Called by each hook: 1 if the call is to fail, with errno set. */
static int fails(const char *name) {
    long number;
    if (strcmp(name, failing) != 0)
        return 0;
    number = atomic_fetch_add(&calls, 1) - failing_first;
    if (number < 0 || number >= failing_times)
        return 0;
    atomic_fetch_add(&failed, 1);
    errno = failing_error;
    return 1;
}

/* What fails because its connection has gone: let that be gone. */
static void end(int fd) {
    int gone = failing_error == EPIPE || failing_error == ECONNRESET || failing_error == ETIMEDOUT
        || failing_error == ENOTCONN;
    if (gone)
        shutdown(fd, SHUT_RDWR);
    errno = failing_error;
}

static int breaks(const char *name, int fd) {
    if (!fails(name))
        return 0;
    end(fd);
    return 1;
}

#define REAL(name) ((__typeof__(&name))real_##name)
#define HOOK_IF(failing, type, name, bad, parameters, ...)   \
    static void *real_##name;                                \
    static type hook_##name parameters {                     \
        return failing ? (bad) : REAL(name)(__VA_ARGS__);    \
    }
#define HOOK(type, name, as, bad, parameters, ...) HOOK_IF(fails(as), type, name, bad, parameters, __VA_ARGS__)

HOOK(void *, malloc, "memory", NULL, (size_t n), n)
HOOK(void *, calloc, "memory", NULL, (size_t n, size_t size), n, size)
HOOK(void *, realloc, "memory", NULL, (void *old, size_t n), old, n)
HOOK(void *, mmap64, "mmap", MAP_FAILED, (void *at, size_t n, int prot, int flags, int fd, off64_t from),
     at, n, prot, flags, fd, from)
HOOK(int, socket, "socket", -1, (int domain, int type, int protocol), domain, type, protocol)
HOOK(int, connect, "connect", -1, (int fd, const struct sockaddr *to, socklen_t n), fd, to, n)
HOOK(int, accept4, "accept4", -1, (int fd, struct sockaddr *from, socklen_t *n, int flags), fd, from, n, flags)
HOOK(int, getsockname, "getsockname", -1, (int fd, struct sockaddr *own, socklen_t *n), fd, own, n)
HOOK(int, getsockopt, "getsockopt", -1, (int fd, int level, int name, void *value, socklen_t *n),
     fd, level, name, value, n)
HOOK(int, setsockopt, "setsockopt", -1, (int fd, int level, int name, const void *value, socklen_t n),
     fd, level, name, value, n)

HOOK_IF(breaks("shutdown", fd), int, shutdown, -1, (int fd, int how), fd, how)
HOOK_IF(breaks("sendmsg", fd), ssize_t, sendmsg, -1, (int fd, const struct msghdr *message, int flags),
        fd, message, flags)

struct epoll_event;
int epoll_ctl(int, int, int, struct epoll_event *);
int epoll_create1(int);
int eventfd(unsigned, int);
HOOK(int, epoll_ctl, "epoll_ctl", -1, (int epfd, int op, int fd, struct epoll_event *event), epfd, op, fd, event)
HOOK(int, epoll_create1, "epoll_create1", -1, (int flags), flags)
HOOK(int, eventfd, "eventfd", -1, (unsigned value, int flags), value, flags)
HOOK(int, pipe2, "pipe2", -1, (int *fds, int flags), fds, flags)

static void *real_fcntl64;
static int hook_fcntl64(int fd, int command, ...) {
    va_list rest;
    long value;
    va_start(rest, command);
    value = va_arg(rest, long);
    va_end(rest);
    return fails("fcntl") ? -1 : ((int (*)(int, int, ...))real_fcntl64)(fd, command, value);
}

static const char *name_of(long number) {
    switch (number) {
    case SYS_recvfrom: return "recv";
    case SYS_sendto: return "send";
    case SYS_splice: return "splice";
    case SYS_epoll_pwait: return "epoll_wait";
    case 425: return "io_uring_setup";
    case 426: return "io_uring_enter";
    default: return "?";
    }
}

static void *real_syscall;
static long hook_syscall(long number, ...) {
    va_list rest;
    long a[6];
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    if (breaks(name_of(number), (int)a[0])) {
        if (number == SYS_splice)
            end((int)a[2]);
        return -1;
    }
    return ((long (*)(long, ...))real_syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

static const struct hook {
    const char *name;
    void *ours;
    void **real;
} hooks[] = {
#define NAMED(name) {#name, (void *)hook_##name, &real_##name}
    {"mmap", (void *)hook_mmap64, &real_mmap64},      /* as musl calls them */
    {"fcntl", (void *)hook_fcntl64, &real_fcntl64},
    NAMED(malloc), NAMED(calloc), NAMED(realloc), NAMED(mmap64), NAMED(socket), NAMED(connect), NAMED(accept4),
    NAMED(getsockname), NAMED(getsockopt), NAMED(setsockopt), NAMED(shutdown), NAMED(sendmsg), NAMED(epoll_ctl),
    NAMED(epoll_create1), NAMED(eventfd), NAMED(pipe2), NAMED(fcntl64), NAMED(syscall),
};

static void slot_write(void **slot, void *value) {
    uintptr_t page = (uintptr_t)slot & ~((uintptr_t)sysconf(_SC_PAGESIZE) - 1);
    mprotect((void *)page, (uintptr_t)(slot + 1) - page, PROT_READ | PROT_WRITE);
    __atomic_store_n(slot, value, __ATOMIC_SEQ_CST);
}

struct work {
    int on;
    int written;
};

static void slots_write(uintptr_t base, const ElfW(Rela) *found, size_t bytes, const ElfW(Sym) *symbols,
                        const char *names, struct work *work) {
    for (size_t i = 0; i < bytes / sizeof *found; i++)
        for (size_t j = 0; j < sizeof hooks / sizeof *hooks; j++)
            if (strcmp(names + symbols[ELF64_R_SYM(found[i].r_info)].st_name, hooks[j].name) == 0) {
                slot_write((void **)(base + found[i].r_offset), work->on ? hooks[j].ours : *hooks[j].real);
                work->written++;
            }
}

static int module_visit(struct dl_phdr_info *module, size_t size, void *work) {
    const ElfW(Sym) *symbols = NULL;
    const ElfW(Rela) *calls_of = NULL, *others = NULL;
    const char *names = NULL;
    size_t calls_bytes = 0, others_bytes = 0;
    (void)size;
    if (strstr(module->dlpi_name, "/fastlb/native/") == NULL)
        return 0;
    for (int i = 0; i < module->dlpi_phnum; i++) {
        const ElfW(Dyn) *entry = (const ElfW(Dyn) *)(module->dlpi_addr + module->dlpi_phdr[i].p_vaddr);
        if (module->dlpi_phdr[i].p_type != PT_DYNAMIC)
            continue;
        for (; entry->d_tag != DT_NULL; entry++) {
            /* glibc has added the module's address already, musl has not. */
            uintptr_t at = entry->d_un.d_ptr + (entry->d_un.d_ptr < module->dlpi_addr ? module->dlpi_addr : 0);
            switch (entry->d_tag) {
            case DT_SYMTAB: symbols = (const ElfW(Sym) *)at; break;
            case DT_STRTAB: names = (const char *)at; break;
            case DT_JMPREL: calls_of = (const ElfW(Rela) *)at; break;
            case DT_PLTRELSZ: calls_bytes = entry->d_un.d_val; break;
            case DT_RELA: others = (const ElfW(Rela) *)at; break;
            case DT_RELASZ: others_bytes = entry->d_un.d_val; break;
            }
        }
    }
    slots_write(module->dlpi_addr, calls_of, calls_bytes, symbols, names, work);
    slots_write(module->dlpi_addr, others, others_bytes, symbols, names, work);
    return 0;
}

/* Put the hooks in, or take them out, of every module that is loaded. Returns how many there are. */
int hooks_set(int on) {
    struct work work = {on, 0};
    for (size_t i = 0; i < sizeof hooks / sizeof *hooks; i++)
        *hooks[i].real = dlsym(RTLD_DEFAULT, hooks[i].name);
    dl_iterate_phdr(module_visit, &work);
    return work.written;
}

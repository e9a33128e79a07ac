/* The four calls of the hot path, without the cancellation points of libc.
 *
 * In a process with threads glibc brackets recv(), send() and the like with two atomic operations
 * so that pthread_cancel() could interrupt them. No thread of fastlb is ever cancelled.
 */
#ifndef FASTLB_CALLS_H
#define FASTLB_CALLS_H

#include <stddef.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static inline ssize_t call_recv(int fd, void *into, size_t len, int flags) {
    return syscall(SYS_recvfrom, fd, into, len, flags, NULL, NULL);
}

static inline ssize_t call_send(int fd, const void *of, size_t len, int flags) {
    return syscall(SYS_sendto, fd, of, len, flags, NULL, 0);
}

static inline ssize_t call_splice(int from, int to, size_t len, unsigned int flags) {
    return syscall(SYS_splice, from, NULL, to, NULL, len, flags);
}

static inline int call_epoll_wait(int epfd, struct epoll_event *events, int count, int timeout_ms) {
    return (int)syscall(SYS_epoll_pwait, epfd, events, count, timeout_ms, NULL, 8);
}

#endif

"""What the engine asks of Linux and libc that Cython does not declare itself.

Facts that the engine depends on:
- Edge-triggered epoll reports a descriptor once for each change. Registering one that is ready
  already reports it. A descriptor leaves epoll when its last duplicate is closed.
- A recv() that returns less than was asked for has emptied the receive queue; only a FIN may
  stand behind it, and EPOLLRDHUP says so, or the mark of urgent data, and EPOLLPRI says so. recv()
  goes on behind the mark the next time; splice() never does.
- EPOLLOUT is reported again only after a send was refused or cut short (SOCK_NOSPACE).
- A send with MSG_MORE leaves its last, partial segment until the next send; shutdown() puts its FIN into
  it, and so does close(), unless it sends RST and throws it away. On loopback a segment less is half of
  what a send costs.
- accept4() without a client makes a socket and throws it away: it costs more than epoll_wait().
- accept4() passes on TCP_NODELAY and the buffer sizes of the listening socket.
- Closing a TCP socket with unread data sends RST, which may destroy what the peer has not read.
- Who sends FIN first keeps the local port in TIME_WAIT for a minute, towards that peer. RST keeps nothing,
  but throws away what was sent and is not acknowledged; SIOCOUTQ says how much that is.
- A RST that comes does not empty the receive queue: recv() and splice() give what is in it before the error.
- EPOLLOUT comes only when a third of the send buffer is free, which a slow peer may need minutes for;
  SIOCOUTQ tells of less.
- splice() returns EAGAIN both for "source is empty" and for "pipe is full"; FIONREAD on the pipe
  is not asked, the engine counts the piped bytes itself.
"""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t


cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        uint64_t u64

    struct epoll_event:
        uint32_t events
        epoll_data_t data

    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLPRI
        EPOLLRDHUP
        EPOLLHUP
        EPOLLERR
        EPOLLET
        EPOLLEXCLUSIVE
        EPOLL_CTL_ADD
        EPOLL_CTL_MOD
        EPOLL_CTL_DEL
        EPOLL_CLOEXEC
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event* event)


cdef extern from "calls.h" nogil:
    ssize_t call_recv(int fd, void* into, size_t len, int flags)
    ssize_t call_send(int fd, const void* of, size_t len, int flags)
    ssize_t call_splice(int from_fd, int to_fd, size_t len, unsigned int flags)
    int call_epoll_wait(int epfd, epoll_event* events, int count, int timeout_ms)


cdef extern from "<sys/eventfd.h>" nogil:
    enum:
        EFD_NONBLOCK
        EFD_CLOEXEC
    int eventfd(unsigned int value, int flags)


cdef extern from "<sys/uio.h>" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len


cdef extern from "<sys/socket.h>" nogil:
    ctypedef unsigned int socklen_t

    struct sockaddr:
        uint16_t sa_family

    struct sockaddr_storage:
        uint16_t ss_family

    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen

    struct linger:
        int l_onoff
        int l_linger
    enum:
        AF_INET
        AF_INET6
        AF_UNIX
        AF_UNSPEC
        SOCK_STREAM
        SOCK_NONBLOCK
        SOCK_CLOEXEC
        SOL_SOCKET
        SO_ERROR
        SO_LINGER
        SO_ATTACH_FILTER
        SHUT_WR
        MSG_MORE
        MSG_NOSIGNAL
        MSG_DONTWAIT
        MSG_PEEK
    int socket(int domain, int type, int protocol)
    int connect(int fd, const sockaddr* address, socklen_t len)
    int accept4(int fd, sockaddr* address, socklen_t* len, int flags)
    int getsockname(int fd, sockaddr* address, socklen_t* len)
    int getpeername(int fd, sockaddr* address, socklen_t* len)
    int shutdown(int fd, int how)
    int setsockopt(int fd, int level, int name, const void* value, socklen_t len)
    int getsockopt(int fd, int level, int name, void* value, socklen_t* len)
    ssize_t sendmsg(int fd, const msghdr* message, int flags)


# Since Linux 4.12; older headers do not know the option.
cdef extern from *:
    """
    #ifndef SO_MEMINFO
    #define SO_MEMINFO 55
    #endif
    """
    enum:
        SO_MEMINFO


# Which of the numbers that SO_MEMINFO tells is what; they are nine, or more one day.
cdef extern from "<linux/sock_diag.h>" nogil:
    enum:
        SK_MEMINFO_WMEM_ALLOC
        SK_MEMINFO_SNDBUF
        SK_MEMINFO_WMEM_QUEUED


cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    enum:
        POLLOUT
    int poll(pollfd* asked, unsigned long count, int timeout_ms)


cdef extern from "<linux/filter.h>" nogil:
    struct sock_filter:
        uint16_t code
        uint8_t jt
        uint8_t jf
        uint32_t k

    struct sock_fprog:
        unsigned short len
        sock_filter* filter


cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr

    struct in6_addr:
        uint8_t s6_addr[16]

    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr

    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    enum:
        IPPROTO_TCP
    uint16_t htons(uint16_t value)
    uint16_t ntohs(uint16_t value)


cdef extern from "<netinet/tcp.h>" nogil:
    enum:
        TCP_NODELAY


cdef extern from "<sys/un.h>" nogil:
    struct sockaddr_un:
        uint16_t sun_family
        char sun_path[108]


cdef extern from "<arpa/inet.h>" nogil:
    const char* inet_ntop(int family, const void* address, char* into, socklen_t len)
    int inet_pton(int family, const char* text, void* into)


cdef extern from "<fcntl.h>" nogil:
    enum:
        SPLICE_F_MOVE
        SPLICE_F_NONBLOCK
        F_SETPIPE_SZ
        O_NONBLOCK
        O_CLOEXEC
    int fcntl(int fd, int command, ...)


cdef extern from "<sys/ioctl.h>" nogil:
    int ioctl(int fd, unsigned long request, ...)


cdef extern from "<linux/sockios.h>" nogil:
    enum:
        SIOCOUTQ


cdef extern from "<unistd.h>" nogil:
    int pipe2(int* fds, int flags)
    int close(int fd)
    ssize_t read(int fd, void* into, size_t len)
    ssize_t write(int fd, const void* of, size_t len)


cdef extern from "<time.h>" nogil:
    struct timespec:
        int64_t tv_sec
        long tv_nsec

    struct tm:
        int tm_year
        int tm_mon
        int tm_mday
        int tm_hour
        int tm_min
        int tm_sec
        int tm_wday
    enum:
        CLOCK_MONOTONIC
        CLOCK_REALTIME
    int clock_gettime(int clock, timespec* into)
    tm* gmtime_r(const int64_t* seconds, tm* into)


cdef inline uint64_t clock_ns(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <uint64_t> now.tv_sec * 1_000_000_000 + <uint64_t> now.tv_nsec

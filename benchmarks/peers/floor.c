/* A bare epoll loop between clients and servers on 127.0.0.1: floor PORT BACKEND-PORT...
 *
 * Each client gets a connection of its own to one of the servers, in turn, which lasts as long as the
 * client's. What one side sends, the other gets as it is: one recv() and one send() for each message.
 * Nothing is parsed, checked or timed, and what a socket does not take at once is lost: messages must
 * be small, and one must have been answered before the next. The facts of the loop are those of the
 * native engine: edge-triggered, registered once, a short read means that all but a FIN is read.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 65536
#define EVENTS_MAX 256
#define MESSAGE_MAX_BYTES 65536

static int epfd;
static int other[FDS_MAX]; /* the other side's descriptor, by descriptor */
static struct sockaddr_in servers[16];
static int server_count, next_server;
static char message[MESSAGE_MAX_BYTES];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static struct sockaddr_in address_of(const char *port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((unsigned short)atoi(port))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    return address;
}

static void watch(int fd, unsigned events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) != 0)
        fail("epoll_ctl");
}

static int listen_at(const char *port) {
    struct sockaddr_in address = address_of(port);
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || listen(fd, 4096) != 0)
        fail("listen");
    return fd;
}

static int connect_next(void) {
    const struct sockaddr_in *server = &servers[next_server++ % server_count];
    int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (const struct sockaddr *)server, sizeof *server) != 0)
        fail("connect");
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

static void accept_all(int listening) {
    int client, server;
    while ((client = accept4(listening, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        server = connect_next();
        if (client >= FDS_MAX || server >= FDS_MAX) {
            fputs("too many descriptors\n", stderr);
            exit(1);
        }
        other[client] = server;
        other[server] = client;
        watch(server, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
        watch(client, EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET);
    }
}

/* Pass on what there is, up to a FIN if epoll has reported one. Both sides end together. */
static void pass(int fd, int hangup) {
    ssize_t n;
    do {
        n = recv(fd, message, sizeof message, MSG_DONTWAIT);
        if (n > 0)
            send(other[fd], message, (size_t)n, MSG_DONTWAIT | MSG_NOSIGNAL);
    } while (n == (ssize_t)sizeof message || (n > 0 && hangup));
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
        close(other[fd]);
        close(fd);
        other[other[fd]] = 0;
        other[fd] = 0;
    }
}

int main(int count, char **ports) {
    struct epoll_event events[EVENTS_MAX];
    int listening, found;
    if (count < 3 || count > 18) {
        fputs("usage: floor PORT BACKEND-PORT...\n", stderr);
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    epfd = epoll_create1(0);
    for (int i = 2; i < count; i++)
        servers[server_count++] = address_of(ports[i]);
    listening = listen_at(ports[1]);
    watch(listening, EPOLLIN);
    for (;;) {
        found = epoll_wait(epfd, events, EVENTS_MAX, -1);
        for (int i = 0; i < found; i++) {
            int fd = events[i].data.fd;
            if (fd == listening)
                accept_all(fd);
            else if (other[fd] && events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
                pass(fd, events[i].events & EPOLLRDHUP);
        }
    }
}

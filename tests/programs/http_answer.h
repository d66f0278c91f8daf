/* SPDX-License-Identifier: Apache-2.0
 *
 * The little HTTP/1.0 the programs here need: one thread, one connection at a time, GET only, the
 * answer is one short text. */
#pragma once

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

struct answer {
    int status;
    char text[1024];
    size_t length;
};

/* Appends to the answer as printf does. */
__attribute__((format(printf, 2, 3))) static inline void answer_add(struct answer* answer,
                                                                    const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    const size_t space = sizeof answer->text - answer->length;
    const int length = vsnprintf(answer->text + answer->length, space, format, arguments);
    va_end(arguments);
    if (length > 0) answer->length += (size_t)length < space ? (size_t)length : space - 1;
}

/* Ends the program for a reason of the system's. */
__attribute__((noreturn)) static inline void die(const char* what) {
    perror(what);
    exit(1);
}

/* argv[1], else PORT of the environment, else 8080; listens on all addresses. */
static inline int http_listen(int argc, char** argv) {
    const char* text = argc > 1 ? argv[1] : getenv("PORT");
    const int port = text ? atoi(text) : 8080;
    const int one = 1;
    const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0) die("socket");
    if (setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one)) die("SO_REUSEADDR");
    const struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((in_port_t)port), .sin_addr = {htonl(INADDR_ANY)}};
    if (bind(listener, (const struct sockaddr*)&address, sizeof address)) die("bind");
    if (listen(listener, 128)) die("listen");
    return listener;
}

static inline void http_send(int connection, const char* data, size_t length) {
    while (length > 0) {
        const ssize_t sent = send(connection, data, length, MSG_NOSIGNAL);
        if (sent <= 0) return; /* the client has gone: its loss */
        data += sent;
        length -= (size_t)sent;
    }
}

/* Reads the head of a request; true if it is a GET, whose path is then in `path`. */
static inline int http_read_path(int connection, char* path, size_t size) {
    const struct timeval patience = {.tv_sec = 5};
    setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    char head[4096];
    size_t length = 0;
    do {
        const ssize_t got = recv(connection, head + length, sizeof head - 1 - length, 0);
        if (got <= 0) return 0;
        length += (size_t)got;
        head[length] = '\0';
    } while (!strstr(head, "\r\n\r\n") && length < sizeof head - 1);
    if (strncmp(head, "GET /", 5) != 0) return 0;
    const size_t path_length = strcspn(head + 4, " \r\n");
    if (path_length >= size) return 0;
    memcpy(path, head + 4, path_length);
    path[path_length] = '\0';
    return 1;
}

/* Answers for ever. `handle` fills the answer to a path; what it leaves empty is "not found". */
__attribute__((noreturn)) static inline void http_serve(int listener,
                                                        void (*handle)(const char* path,
                                                                       struct answer* answer)) {
    for (;;) {
        const int connection = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (connection < 0) {
            if (errno == EINTR || errno == ECONNABORTED) continue;
            die("accept");
        }
        char path[256];
        struct answer answer = {.status = 200};
        if (!http_read_path(connection, path, sizeof path)) {
            answer.status = 400;
            answer_add(&answer, "bad request\n");
        } else {
            handle(path, &answer);
        }
        if (answer.length == 0) {
            answer.status = 404;
            answer_add(&answer, "no such path\n");
        }
        char head[160];
        const int length = snprintf(head, sizeof head,
                                    "HTTP/1.0 %d -\r\nContent-Type: text/plain\r\n"
                                    "Content-Length: %zu\r\nConnection: close\r\n\r\n",
                                    answer.status, answer.length);
        http_send(connection, head, (size_t)length);
        http_send(connection, answer.text, answer.length);
        close(connection);
    }
}

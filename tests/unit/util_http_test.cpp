// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <future>
#include <thread>

#include "util/clock.h"
#include "util/fd.h"
#include "util/fs.h"
#include "util/http.h"

namespace memplate {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;
using namespace std::chrono_literals;

/// Sends all of `text`, or as much as the client wants to have.
void send_text(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (n <= 0) return;
        text.remove_prefix(static_cast<size_t>(n));
    }
}

/// A socket bound to a free loopback port; listening if asked.
class Socket {
  public:
    explicit Socket(bool listening) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t length = sizeof address;
        auto* const generic = reinterpret_cast<sockaddr*>(&address);
        EXPECT_EQ(::bind(fd_.get(), generic, length), 0);
        EXPECT_EQ(::getsockname(fd_.get(), generic, &length), 0);
        port_ = ntohs(address.sin_port);
        if (listening) listen();
    }
    void listen() const { EXPECT_EQ(::listen(fd_.get(), 16), 0); }
    [[nodiscard]] int fd() const { return fd_.get(); }
    [[nodiscard]] uint16_t port() const { return port_; }

  private:
    UniqueFd fd_;
    uint16_t port_ = 0;
};

/// A loopback server that reads one request a connection and lets `answer` reply.
class Server {
  public:
    using Answer = std::function<void(int fd, const std::string& request)>;
    explicit Server(Answer answer)
        : answer_(std::move(answer)),
          thread_([this](const std::stop_token& stop) { serve(stop); }) {}
    [[nodiscard]] uint16_t port() const { return socket_.port(); }

  private:
    void serve(const std::stop_token& stop) const {
        while (!stop.stop_requested()) {
            pollfd waiting = {.fd = socket_.fd(), .events = POLLIN, .revents = 0};
            if (::poll(&waiting, 1, 20) != 1) continue;
            const UniqueFd client(::accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC));
            answer_(client.get(), read_request(client.get()));
        }
    }
    static std::string read_request(int fd) {
        std::string request;
        std::array<char, 4096> buffer{};
        size_t expected = std::string::npos;
        while (request.size() < expected) {
            const ssize_t n = ::read(fd, buffer.data(), buffer.size());
            if (n <= 0) break;
            request.append(buffer.data(), static_cast<size_t>(n));
            const size_t end = request.find("\r\n\r\n");
            if (end == std::string::npos) continue;
            const size_t length = request.find("Content-Length: ");
            expected =
                end + 4 + (length < end ? std::strtoul(&request[length + 16], nullptr, 10) : 0);
        }
        return request;
    }
    Socket socket_{true};
    Answer answer_;
    std::jthread thread_;
};

/// Answers 200 with the request as the body.
void echo(int fd, const std::string& request) {
    send_text(fd, fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{}", request.size(),
                              request));
}

Server::Answer always(std::string reply) {
    return [reply = std::move(reply)](int fd, const std::string&) { send_text(fd, reply); };
}

Result<HttpResponse> get(const Server& server, const std::string& path = "/",
                         std::chrono::milliseconds timeout = 5s) {
    return http_request("127.0.0.1", server.port(), {.path = path}, timeout);
}

TEST(HttpRequest, GetSendsWhatItShould) {
    const Server server(echo);
    const auto response = get(server, "/health?x=1&y=a%20b");
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, 200);
    EXPECT_GT(response->milliseconds, 0);
    const std::string& request = response->body;
    EXPECT_THAT(request, StartsWith("GET /health?x=1&y=a%20b HTTP/1.1\r\n"));
    EXPECT_THAT(request, HasSubstr(fmt::format("Host: 127.0.0.1:{}\r\n", server.port())));
    EXPECT_THAT(request, HasSubstr("Connection: close\r\n"));
    EXPECT_THAT(request, Not(HasSubstr("Content-")));
}

TEST(HttpRequest, PostSendsBodyAndType) {
    const Server server(echo);
    const std::string body("{\"n\":\0 3}", 9);
    auto response = http_request("127.0.0.1", server.port(),
                                 {.method = "POST", .path = "/run", .body = body}, 5s);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_THAT(response->body, StartsWith("POST /run HTTP/1.1\r\n"));
    EXPECT_THAT(response->body, HasSubstr("Content-Type: application/json\r\n"));
    EXPECT_THAT(response->body, HasSubstr("Content-Length: 9\r\n"));
    EXPECT_TRUE(response->body.ends_with("\r\n\r\n" + body));

    response =
        http_request("127.0.0.1", server.port(),
                     {.method = "PUT", .path = "/", .body = "x", .content_type = "text/plain"}, 5s);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_THAT(response->body, StartsWith("PUT / HTTP/1.1\r\n"));
    EXPECT_THAT(response->body, HasSubstr("Content-Type: text/plain\r\n"));
}

TEST(HttpRequest, LargeBodyIsSentWithoutWaitingForContinue) {
    const Server server(echo);
    const std::string body(3'000'000, 'b');
    const auto response =
        http_request("127.0.0.1", server.port(), {.method = "POST", .path = "/", .body = body}, 5s);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_THAT(response->body.substr(0, 300), Not(HasSubstr("Expect")));
    EXPECT_TRUE(response->body.ends_with(body));
    EXPECT_LT(response->milliseconds, 900);  // waiting for "100 Continue" takes a second
}

TEST(HttpRequest, EmptyPostSaysSo) {
    const Server server(echo);
    const auto response =
        http_request("127.0.0.1", server.port(), {.method = "POST", .path = "/"}, 5s);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_THAT(response->body, HasSubstr("Content-Length: 0\r\n"));
    EXPECT_THAT(response->body, Not(HasSubstr("Content-Type")));
}

TEST(HttpRequest, HeadHasNoBody) {
    const Server server(always("HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n"));
    const auto response =
        http_request("127.0.0.1", server.port(), {.method = "HEAD", .path = "/"}, 5s);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, 204);
    EXPECT_EQ(response->body, "");
}

TEST(HttpRequest, ErrorStatusAndRedirectsAreAnswers) {
    const Server failing(always("HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"));
    auto response = get(failing);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, 503);
    EXPECT_EQ(response->body, "busy");
    const Server redirecting(
        always("HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n"));
    response = get(redirecting);
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->status, 302);
}

TEST(HttpRequest, ReadsChunkedAndUnboundedBodies) {
    const Server chunked(always(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"));
    EXPECT_EQ(get(chunked)->body, "abcde");
    const Server unbounded(always("HTTP/1.0 200 OK\r\n\r\nuntil the end"));
    EXPECT_EQ(get(unbounded)->body, "until the end");
}

TEST(HttpRequest, ProxiesFromTheEnvironmentAreIgnored) {
    const Server server(always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    ::setenv("http_proxy", "http://127.0.0.1:1/", 1);
    const auto response = get(server);
    ::unsetenv("http_proxy");
    ASSERT_TRUE(response) << response.error().message;
    EXPECT_EQ(response->body, "ok");
}

TEST(HttpRequest, NobodyListeningIsRefused) {
    const Socket closed(false);
    const auto response = http_request("127.0.0.1", closed.port(), {}, 1s);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, ECONNREFUSED);
    EXPECT_THAT(response.error().message,
                HasSubstr(fmt::format("GET http://127.0.0.1:{}/: ", closed.port())));
}

TEST(HttpRequest, SilentServerTimesOut) {
    const Socket silent(true);
    const Stopwatch stopwatch;
    const auto response = http_request("127.0.0.1", silent.port(), {}, 100ms);
    ASSERT_FALSE(response);
    EXPECT_EQ(response.error().code, ETIMEDOUT);
    EXPECT_GE(stopwatch.milliseconds(), 90);
    EXPECT_LT(stopwatch.milliseconds(), 3000);
    EXPECT_EQ(http_request("127.0.0.1", silent.port(), {}, 0ms).error().code, ETIMEDOUT);
}

TEST(HttpRequest, BrokenAnswersAreErrors) {
    const Server cut(always("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this"));
    EXPECT_FALSE(get(cut));
    const Server hangs_up(always(""));
    EXPECT_FALSE(get(hangs_up));
    const Server babble(always("hello there\n"));
    EXPECT_FALSE(get(babble));
}

TEST(HttpRequest, BodiesAboveTheLimitAreRefused) {
    constexpr size_t limit = size_t{64} << 20;
    const auto reply_of = [](size_t size) {
        return [size](int fd, const std::string&) {
            send_text(fd, "HTTP/1.0 200 OK\r\n\r\n");
            send_text(fd, std::string(size, 'x'));
        };
    };
    const Server at_limit(reply_of(limit));
    const auto accepted = get(at_limit, "/", 30s);
    ASSERT_TRUE(accepted) << accepted.error().message;
    EXPECT_EQ(accepted->body.size(), limit);
    const Server above(reply_of(limit + 1));
    const auto refused = get(above, "/", 30s);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, EFBIG);
}

TEST(HttpRequest, WrongRequestsAreUsageErrors) {
    const auto kind_of = [](const std::string& address, const HttpRequest& request) {
        const auto response = http_request(address, 1, request, 1s);
        return response ? ErrorKind::failed : response.error().kind;
    };
    EXPECT_EQ(kind_of("no.such.name", {}), ErrorKind::usage);
    EXPECT_EQ(kind_of("127.0.0.1@evil", {}), ErrorKind::usage);
    EXPECT_EQ(kind_of("127.0.0.1", {.path = "relative"}), ErrorKind::usage);
    EXPECT_EQ(kind_of("127.0.0.1", {.path = "/a b"}), ErrorKind::usage);
    EXPECT_EQ(kind_of("127.0.0.1", {.path = "/\r\nX: y"}), ErrorKind::usage);
    EXPECT_EQ(kind_of("127.0.0.1", {.method = "GET /\r\n"}), ErrorKind::usage);
    EXPECT_EQ(kind_of("127.0.0.1", {.method = ""}), ErrorKind::usage);
    EXPECT_EQ(kind_of("127.0.0.1", {.body = "x", .content_type = "a\r\nX: y"}), ErrorKind::usage);
}

TEST(HttpRequest, ManyThreadsAtOnce) {
    const Server server(always("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"));
    std::atomic<int> answered = 0;
    {
        std::vector<std::jthread> threads;
        for (int i = 0; i < 8; i++)
            threads.emplace_back([&] {
                for (int k = 0; k < 5; k++)
                    if (const auto response = get(server); response && response->body == "ok")
                        answered++;
            });
    }
    EXPECT_EQ(answered, 40);
}

TEST(WaitForTcp, ReturnsOnceSomebodyListens) {
    const Socket socket(false);
    const auto deadline = std::chrono::steady_clock::now() + 10s;
    auto waiting = std::async(std::launch::async, [&] {
        return wait_for_tcp("127.0.0.1", socket.port(), deadline, 1ms, {});
    });
    EXPECT_EQ(waiting.wait_for(60ms), std::future_status::timeout);
    socket.listen();
    const Stopwatch stopwatch;
    const auto waited = waiting.get();
    EXPECT_TRUE(waited) << waited.error().message;
    EXPECT_LT(stopwatch.milliseconds(), 1000);
}

TEST(WaitForTcp, EndsAtTheDeadline) {
    const Socket socket(false);
    const Stopwatch stopwatch;
    const auto waited = wait_for_tcp("127.0.0.1", socket.port(), stopwatch.start() + 80ms, 10s, {});
    ASSERT_FALSE(waited);
    EXPECT_EQ(waited.error().code, ETIMEDOUT);
    EXPECT_THAT(waited.error().message, HasSubstr("Connection refused"));
    EXPECT_GE(stopwatch.milliseconds(), 80);
    EXPECT_LT(stopwatch.milliseconds(), 2000);
}

TEST(WaitForTcp, EndsOnRequest) {
    const Socket socket(false);
    std::stop_source source;
    const auto deadline = std::chrono::steady_clock::now() + 20s;
    auto waiting = std::async(std::launch::async, [&] {
        return wait_for_tcp("127.0.0.1", socket.port(), deadline, 10s, source.get_token());
    });
    std::this_thread::sleep_for(20ms);
    const Stopwatch stopwatch;
    source.request_stop();
    const auto waited = waiting.get();
    EXPECT_LT(stopwatch.milliseconds(), 500);
    ASSERT_FALSE(waited);
    EXPECT_EQ(waited.error().kind, ErrorKind::interrupted);
}

/// In a network namespace of its own, where every connection has to start from `port`: 0 if
/// wait_for_tcp() then says that nobody listens on that port, 77 if this cannot be tried.
int wait_with_one_source_port(uint16_t port) {
    if (::unshare(CLONE_NEWNET) != 0) return 77;
    const UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq loopback{};
    std::strcpy(loopback.ifr_name, "lo");
    loopback.ifr_flags = IFF_UP;
    if (::ioctl(socket.get(), SIOCSIFFLAGS, &loopback) != 0 ||
        !write_control_file(AT_FDCWD, "/proc/sys/net/ipv4/ip_local_port_range",
                            fmt::format("{} {}", port, port)))
        return 77;
    const auto waited =
        wait_for_tcp("127.0.0.1", port, std::chrono::steady_clock::now() + 100ms, 1ms, {});
    return !waited && waited.error().code == ETIMEDOUT ? 0 : 1;
}

TEST(WaitForTcp, IsNotFooledByItself) {
    const pid_t child = ::fork();
    if (child == 0) ::_exit(wait_with_one_source_port(40'000));
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) GTEST_SKIP() << "a network namespace is not permitted here";
    EXPECT_EQ(WEXITSTATUS(status), 0);
}

TEST(WaitForTcp, SpeaksIpv6) {
    const UniqueFd server(::socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in6 address{};
    address.sin6_family = AF_INET6;
    address.sin6_addr = in6addr_loopback;
    socklen_t length = sizeof address;
    auto* const generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(server.get(), generic, length) != 0) GTEST_SKIP() << "no IPv6 loopback here";
    ASSERT_EQ(::listen(server.get(), 4), 0);
    ASSERT_EQ(::getsockname(server.get(), generic, &length), 0);
    const uint16_t port = ntohs(address.sin6_port);
    const auto deadline = std::chrono::steady_clock::now() + 2s;
    const auto waited = wait_for_tcp("::1", port, deadline, 1ms, {});
    EXPECT_TRUE(waited) << waited.error().message;
    EXPECT_THAT(http_request("::1", port, {}, 50ms).error().message,
                HasSubstr(fmt::format("http://[::1]:{}/", port)));
}

TEST(WaitForTcp, RefusesNames) {
    const auto waited =
        wait_for_tcp("localhost", 1, std::chrono::steady_clock::now() + 1s, 1ms, {});
    ASSERT_FALSE(waited);
    EXPECT_EQ(waited.error().kind, ErrorKind::usage);
}

}  // namespace
}  // namespace memplate

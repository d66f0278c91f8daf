// SPDX-License-Identifier: Apache-2.0
#include "util/http.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "util/clock.h"
#include "util/fd.h"

namespace memplate {
namespace {

using std::chrono::steady_clock;

constexpr size_t body_limit = size_t{64} << 20;

struct EasyCleanup {
    void operator()(CURL* handle) const { curl_easy_cleanup(handle); }
};
struct ListFree {
    void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

bool curl_is_ready() {
    // No TLS is ever spoken: setting it up would cost milliseconds.
    static const CURLcode code = curl_global_init(CURL_GLOBAL_NOTHING);
    return code == CURLE_OK;
}

struct SocketAddress {
    sockaddr_storage storage{};
    socklen_t length = 0;
};

/// Only numeric addresses: instances have no names, and a look-up could block.
Result<SocketAddress> socket_address(const std::string& address, uint16_t port) {
    SocketAddress result;
    sockaddr_in v4{};
    sockaddr_in6 v6{};
    if (::inet_pton(AF_INET, address.c_str(), &v4.sin_addr) == 1) {
        v4.sin_family = AF_INET;
        v4.sin_port = htons(port);
        std::memcpy(&result.storage, &v4, sizeof v4);
        result.length = sizeof v4;
    } else if (::inet_pton(AF_INET6, address.c_str(), &v6.sin6_addr) == 1) {
        v6.sin6_family = AF_INET6;
        v6.sin6_port = htons(port);
        std::memcpy(&result.storage, &v6, sizeof v6);
        result.length = sizeof v6;
    } else {
        return fail(ErrorKind::usage, fmt::format("{:?} is not an IP address", address));
    }
    return result;
}

std::string host_and_port(const std::string& address, uint16_t port) {
    return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                  : fmt::format("[{}]:{}", address, port);
}

/// What would let one string end and another part of the request begin.
bool has_blank_or_control(std::string_view text) {
    return std::ranges::any_of(text, [](unsigned char c) { return c <= 0x20 || c == 0x7f; });
}

Result<> check_request(const HttpRequest& request) {
    if (!request.path.starts_with('/') || has_blank_or_control(request.path))
        return fail(ErrorKind::usage,
                    fmt::format("HTTP path {:?}: must start with '/' and have no blanks; encode "
                                "them as %20",
                                request.path));
    if (request.method.empty() ||
        !std::ranges::all_of(request.method, [](char c) { return c >= 'A' && c <= 'Z'; }))
        return fail(ErrorKind::usage,
                    fmt::format("HTTP method {:?}: must be capital letters", request.method));
    if (request.content_type.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos)
        return fail(ErrorKind::usage, "HTTP content type: must be one line");
    return {};
}

struct Body {
    std::string text;
    bool too_large = false;
};

size_t receive(const char* data, size_t size, size_t count, void* user) {
    auto& body = *static_cast<Body*>(user);
    const size_t n = size * count;
    if (body.text.size() + n > body_limit) {
        body.too_large = true;
        return 0;
    }
    body.text.append(data, n);
    return n;
}

Failure request_failure(CURL* handle, CURLcode code, const Body& body, const std::string& what,
                        const char* detail) {
    if (body.too_large) return fail_errno(EFBIG, fmt::format("{}: body above 64 MiB", what));
    long os_error = 0;
    curl_easy_getinfo(handle, CURLINFO_OS_ERRNO, &os_error);
    auto failure =
        fail(fmt::format("{}: {}", what, *detail != '\0' ? detail : curl_easy_strerror(code)));
    failure.error().code =
        code == CURLE_OPERATION_TIMEDOUT ? ETIMEDOUT : static_cast<int>(os_error);
    return failure;
}

/// A connection to ourselves: with nobody listening on a port of the ephemeral range, the kernel
/// may pick that very port as our source, and TCP's simultaneous open then succeeds.
bool connected_to_itself(int fd) {
    sockaddr_storage local{};
    sockaddr_storage peer{};
    socklen_t local_length = sizeof local;
    socklen_t peer_length = sizeof peer;
    return ::getsockname(fd, reinterpret_cast<sockaddr*>(&local), &local_length) == 0 &&
           ::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &peer_length) == 0 &&
           local_length == peer_length && std::memcmp(&local, &peer, local_length) == 0;
}

/// Zero once connected, else the errno.
int finish_connect(int fd) {
    int error = 0;
    socklen_t length = sizeof error;
    if (::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length) != 0) return errno;
    if (error == 0 && connected_to_itself(fd)) {
        // Reset instead of TIME_WAIT, which would keep the port from the server we wait for.
        const linger reset = {.l_onoff = 1, .l_linger = 0};
        (void)::setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
        return ECONNREFUSED;
    }
    return error;
}

/// One attempt that takes at most `limit`: the errno, zero when connected.
int try_connect(const SocketAddress& address, std::chrono::nanoseconds limit) {
    const UniqueFd fd(
        ::socket(address.storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!fd) return errno;
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address.storage), address.length) ==
        0)
        return finish_connect(fd.get());
    if (errno != EINPROGRESS) return errno;
    const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(limit);
    const timespec timeout = {.tv_sec = seconds.count(), .tv_nsec = (limit - seconds).count()};
    pollfd waiting = {.fd = fd.get(), .events = POLLOUT, .revents = 0};
    const int ready = ::ppoll(&waiting, 1, &timeout, nullptr);
    if (ready < 0) return errno;
    return ready == 0 ? ETIMEDOUT : finish_connect(fd.get());
}

/// Errors that go away once the instance's network and server are up.
bool worth_retrying(int error) {
    constexpr std::array passing = {ECONNREFUSED,  EHOSTUNREACH, ENETUNREACH, ETIMEDOUT,
                                    ECONNRESET,    ECONNABORTED, EHOSTDOWN,   ENETDOWN,
                                    EADDRNOTAVAIL, EAGAIN,       EINTR};
    return std::ranges::find(passing, error) != passing.end();
}

}  // namespace

Result<HttpResponse> http_request(const std::string& address, uint16_t port,
                                  const HttpRequest& request, std::chrono::milliseconds timeout) {
    const Stopwatch stopwatch;
    TRY(socket_address(address, port));
    TRY(check_request(request));
    if (!curl_is_ready()) return fail("libcurl cannot be initialised");
    const std::unique_ptr<CURL, EasyCleanup> handle(curl_easy_init());
    if (!handle) return fail("libcurl cannot be initialised");
    CURL* const curl = handle.get();

    const std::string url = fmt::format("http://{}{}", host_and_port(address, port), request.path);
    const std::string what = fmt::format("{} {}", request.method, url);
    // Methods that are defined with a body say "Content-Length: 0" when theirs is empty.
    const bool sends_body = !request.body.empty() || request.method == "POST" ||
                            request.method == "PUT" || request.method == "PATCH";
    std::vector<std::string> header_lines = {"Connection: close", "Expect:"};
    if (request.body.empty())
        header_lines.emplace_back("Content-Type:");
    else
        header_lines.push_back("Content-Type: " + (request.content_type.empty()
                                                       ? "application/json"
                                                       : request.content_type));
    std::unique_ptr<curl_slist, ListFree> headers;
    for (const std::string& line : header_lines) {
        curl_slist* const longer = curl_slist_append(headers.get(), line.c_str());
        if (longer == nullptr) return fail_errno(ENOMEM, what);
        (void)headers.release();
        headers.reset(longer);
    }

    Body body;
    std::array<char, CURL_ERROR_SIZE> detail{};
    CURLcode code = CURLE_OK;
    const auto set = [&](CURLoption option, auto value) {
        if (code == CURLE_OK) code = curl_easy_setopt(curl, option, value);
    };
    set(CURLOPT_ERRORBUFFER, detail.data());
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PATH_AS_IS, 1L);
    set(CURLOPT_PROTOCOLS_STR, "http");
    set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
    set(CURLOPT_PROXY, "");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_FOLLOWLOCATION, 0L);
    set(CURLOPT_FORBID_REUSE, 1L);
    set(CURLOPT_HTTPHEADER, headers.get());
    // Zero would mean no limit at all.
    set(CURLOPT_TIMEOUT_MS,
        static_cast<long>(std::max(timeout, std::chrono::milliseconds(1)).count()));
    set(CURLOPT_WRITEFUNCTION, &receive);
    set(CURLOPT_WRITEDATA, static_cast<void*>(&body));
    if (sends_body) {
        set(CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
        set(CURLOPT_POSTFIELDS, request.body.data());
    }
    if (request.method == "HEAD") set(CURLOPT_NOBODY, 1L);
    set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
    if (code == CURLE_OK) code = curl_easy_perform(curl);
    if (code != CURLE_OK) return request_failure(curl, code, body, what, detail.data());

    HttpResponse response;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &response.status);
    response.body = std::move(body.text);
    response.milliseconds = stopwatch.milliseconds();
    return response;
}

Result<> wait_for_tcp(const std::string& address, uint16_t port, steady_clock::time_point deadline,
                      std::chrono::microseconds interval, const std::stop_token& stop) {
    // Also how long a request to stop may go unnoticed.
    constexpr std::chrono::nanoseconds longest_wait = std::chrono::milliseconds(50);
    TRY_ASSIGN(const SocketAddress target, socket_address(address, port));
    const std::string what = fmt::format("connect to {}", host_and_port(address, port));
    int error = ETIMEDOUT;
    for (;;) {
        if (stop.stop_requested()) return fail(ErrorKind::interrupted, "interrupted");
        const auto attempt = steady_clock::now();
        if (attempt >= deadline) {
            auto failure =
                fail(fmt::format("{}: nobody answered in time ({})", what, strerrordesc_np(error)));
            failure.error().code = ETIMEDOUT;
            return failure;
        }
        error = try_connect(target,
                            std::min<std::chrono::nanoseconds>(longest_wait, deadline - attempt));
        if (error == 0) return {};
        if (!worth_retrying(error)) return fail_errno(error, what);
        const auto next = std::min(deadline, attempt + interval);
        while (!stop.stop_requested()) {
            const std::chrono::nanoseconds left = next - steady_clock::now();
            if (left.count() <= 0) break;
            std::this_thread::sleep_for(std::min(left, longest_wait));
        }
    }
}

}  // namespace memplate

// SPDX-License-Identifier: Apache-2.0
//
// Requests to instances: readiness probes and warm-up requests. Plain HTTP/1.1 through libcurl, one
// connection per request unless a session is kept.
#pragma once

#include <chrono>
#include <stop_token>
#include <string>

#include "util/result.h"

namespace memplate {

struct HttpRequest {
    std::string method = "GET";
    std::string path = "/";
    std::string body = {};
    std::string content_type = {};  ///< sent with a body; default application/json
};

struct HttpResponse {
    long status = 0;
    std::string body;
    double milliseconds = 0;  ///< from the call to the last byte
};

/// One request with "Connection: close" to a numeric IPv4 or IPv6 address; redirects are not
/// followed, proxies are not used. Bodies above 64 MiB are refused.
[[nodiscard]] Result<HttpResponse> http_request(const std::string& address, uint16_t port,
                                                const HttpRequest& request,
                                                std::chrono::milliseconds timeout);

/// Waits until a TCP connection to address:port succeeds, trying every `interval`. Ends with
/// ErrorKind::interrupted if `stop` is requested, with code ETIMEDOUT at `deadline`.
[[nodiscard]] Result<> wait_for_tcp(const std::string& address, uint16_t port,
                                    std::chrono::steady_clock::time_point deadline,
                                    std::chrono::microseconds interval,
                                    const std::stop_token& stop);

}  // namespace memplate

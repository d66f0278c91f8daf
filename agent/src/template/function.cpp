// SPDX-License-Identifier: Apache-2.0
#include "template/function.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>

#include "util/fs.h"
#include "util/text.h"
#include "util/toml_reader.h"

namespace memplate {
namespace {

constexpr size_t maximum_text = size_t{1} << 20;
constexpr int64_t maximum_timeout_ms = 3'600'000;
constexpr int64_t maximum_repeat = 1'000'000;
constexpr uint64_t minimum_memory = uint64_t{1} << 20;
constexpr std::array<std::string_view, 5> methods{"GET", "POST", "PUT", "PATCH", "DELETE"};

/// Whether `text` can stand in a request line or a header as it is.
bool is_visible(std::string_view text, bool allow_space) {
    return std::ranges::all_of(text, [allow_space](char character) {
        const auto byte = static_cast<unsigned char>(character);
        return (byte > 0x20 && byte < 0x7f) || (allow_space && byte == 0x20);
    });
}

Result<> check_http_path(const TomlReader& reader, std::string_view key, const std::string& path) {
    if (path.starts_with('/') && is_visible(path, false)) return {};
    return reader.error(key, fmt::format("\"{}\" is not a request path; begin it with / and "
                                         "percent-encode spaces and non-ASCII",
                                         printable(path)));
}

/// Runs a check from util, whose message names no file, and puts our place in front.
template <class Value>
Result<Value> placed(const TomlReader& reader, std::string_view key, Result<Value> result) {
    if (result) return result;
    return reader.error(key, printable(result.error().message, 300));
}

Result<> read_name(const TomlReader& reader, std::string_view key, std::string& value) {
    TRY(reader.read(key, value));
    return placed(reader, key, check_name(key, value));
}

Result<> read_command(const TomlReader& reader, std::vector<std::string>& command) {
    TRY(reader.require("command", R"(["/usr/bin/program", "argument"])"));
    TRY(reader.read("command", command));
    if (command.empty() || command.front().empty())
        return reader.error("command", "names no program; put its path first");
    return {};
}

/// `value` is left as it is when the key is absent; else made absolute.
Result<> read_path(const TomlReader& reader, std::string_view key, const std::string& base,
                   std::string& value) {
    if (!reader.has(key)) return {};
    TRY(reader.read(key, value));
    if (value.empty()) return reader.error(key, "is empty; name a directory or leave it out");
    // An absolute right side replaces the left one.
    auto path = (std::filesystem::path(base) / value).lexically_normal();
    if (!path.has_filename() && path.has_relative_path()) path = path.parent_path();
    value = path.string();
    return {};
}

bool is_variable_name(std::string_view name) {
    const auto letter = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    };
    const auto digit = [](char c) { return c >= '0' && c <= '9'; };
    return !name.empty() && letter(name.front()) &&
           std::ranges::all_of(name, [&](char c) { return letter(c) || digit(c); });
}

Result<> read_environment(const TomlReader& parent, std::vector<std::string>& environment) {
    TRY_ASSIGN(const toml::table* table, parent.table("environment"));
    if (!table) return {};
    const TomlReader reader(*table, "environment.", parent.origin());
    for (const auto& [key, node] : *table) {
        if (!is_variable_name(key.str())) {
            return reader.error(key.str(),
                                "not a variable name; use letters, digits and _, no digit first");
        }
        std::string value;
        TRY(reader.read(key.str(), value));
        environment.push_back(fmt::format("{}={}", key.str(), value));
    }
    return {};
}

Result<> read_readiness(const TomlReader& parent, uint16_t port, Readiness& readiness) {
    const toml::table nothing;
    TRY_ASSIGN(const toml::table* table, parent.table("readiness"));
    const TomlReader reader(table ? *table : nothing, "readiness.", parent.origin());
    TRY(reader.check_keys({"kind", "path", "line", "timeout_ms"}));

    std::string kind = "tcp";
    TRY(reader.read("kind", kind));
    if (kind == "tcp") {
        readiness.kind = ReadinessKind::tcp;
    } else if (kind == "http") {
        readiness.kind = ReadinessKind::http;
    } else if (kind == "output") {
        readiness.kind = ReadinessKind::output;
    } else {
        return reader.error("kind", fmt::format("\"{}\" is not a kind of readiness; use tcp, http "
                                                "or output",
                                                printable(kind)));
    }

    if (reader.has("path") && readiness.kind != ReadinessKind::http)
        return reader.error("path", "has no meaning here; use it with kind = \"http\"");
    TRY(reader.read("path", readiness.path));
    TRY(check_http_path(reader, "path", readiness.path));

    if (readiness.kind == ReadinessKind::output) {
        TRY(reader.require("line", "\"text of a line on standard output\""));
    } else if (reader.has("line")) {
        return reader.error("line", "has no meaning here; use it with kind = \"output\"");
    }
    TRY(reader.read("line", readiness.line));
    if (reader.has("line") &&
        (readiness.line.empty() || readiness.line.find('\n') != std::string::npos))
        return reader.error("line", "is empty or has a line break; give text within one line");

    auto timeout = readiness.timeout.count();
    TRY(reader.read("timeout_ms", timeout, 1, maximum_timeout_ms));
    readiness.timeout = std::chrono::milliseconds(timeout);

    if (port == 0 && readiness.kind != ReadinessKind::output) {
        return parent.error("port", fmt::format("missing, but readiness.kind is \"{}\"; add a "
                                                "port, or use readiness.kind = \"output\"",
                                                kind));
    }
    return {};
}

Result<WarmupRequest> read_request(const TomlReader& reader) {
    WarmupRequest warmup;
    HttpRequest& request = warmup.request;
    TRY(reader.check_keys({"method", "path", "body", "content_type", "repeat", "expect_status",
                           "expect_body", "expect_contains"}));
    TRY(reader.read("method", request.method));
    if (std::ranges::find(methods, request.method) == methods.end()) {
        return reader.error(
            "method", fmt::format("\"{}\" is not supported; use {}", printable(request.method),
                                  fmt::join(methods, ", ")));
    }
    TRY(reader.read("path", request.path));
    TRY(check_http_path(reader, "path", request.path));
    TRY(reader.read("body", request.body));
    TRY(reader.read("content_type", request.content_type));
    if (reader.has("content_type")) {
        if (request.body.empty())
            return reader.error("content_type", "has no meaning without a body; remove it");
        if (request.content_type.empty() || !is_visible(request.content_type, true))
            return reader.error("content_type", "is not a media type; use e.g. text/plain");
    }
    TRY(reader.read("repeat", warmup.repeat, 1, maximum_repeat));
    TRY(reader.read("expect_status", warmup.expect_status, 100, 599));
    TRY(reader.read("expect_body", warmup.expect_body));
    TRY(reader.read("expect_contains", warmup.expect_contains));
    for (const std::string_view key : {"expect_body", "expect_contains"}) {
        // An empty string would silently check nothing.
        const auto* text = reader.raw()[key].as_string();
        if (text && text->get().empty())
            return reader.error(key, "is empty and would check nothing; remove it");
    }
    return warmup;
}

Result<> read_requests(const TomlReader& reader, Function& function) {
    TRY_ASSIGN(const auto warmups, reader.tables("warmup"));
    for (size_t index = 0; index < warmups.size(); ++index) {
        TRY_ASSIGN(auto request, read_request({*warmups[index], fmt::format("warmup[{}].", index),
                                               reader.origin()}));
        function.warmup.push_back(std::move(request));
    }
    TRY_ASSIGN(const toml::table* touch, reader.table("touch"));
    if (touch) {
        TRY_ASSIGN(auto request, read_request({*touch, "touch.", reader.origin()}));
        function.touch = std::move(request);
    }
    for (const std::string_view key : {"warmup", "touch"}) {
        if (function.port == 0 && reader.has(key))
            return reader.error(key, "needs a port; add port = 8080 or remove the request");
    }
    return {};
}

Result<> read_limits(const TomlReader& parent, FunctionLimits& limits) {
    TRY_ASSIGN(const toml::table* table, parent.table("limits"));
    if (!table) return {};
    const TomlReader reader(*table, "limits.", parent.origin());
    TRY(reader.check_keys({"memory", "cpus"}));
    if (reader.has("memory")) {
        std::string size;
        TRY(reader.read("memory", size));
        TRY_ASSIGN(const uint64_t bytes, placed(reader, "memory", parse_size(size)));
        if (bytes < minimum_memory)
            return reader.error("memory", "is out of range; use 1M or more");
        limits.memory_bytes = bytes;
    }
    return reader.read_number("cpus", limits.cpus, 0.01, 1024);
}

Result<> read_clone(const TomlReader& parent, std::string& signal) {
    TRY_ASSIGN(const toml::table* table, parent.table("clone"));
    if (!table) return {};
    const TomlReader reader(*table, "clone.", parent.origin());
    TRY(reader.check_keys({"signal"}));
    if (!reader.has("signal")) return {};
    TRY(reader.read("signal", signal));
    TRY(placed(reader, "signal", signal_number(signal)));
    return {};
}

Result<> read_binds(const TomlReader& parent, const std::string& base,
                    std::vector<FunctionBind>& binds) {
    TRY_ASSIGN(const auto tables, parent.tables("bind"));
    for (size_t index = 0; index < tables.size(); ++index) {
        const TomlReader reader(*tables[index], fmt::format("bind[{}].", index), parent.origin());
        TRY(reader.check_keys({"source", "target", "writable"}));
        FunctionBind bind;
        TRY(reader.require("source", "\"/models\""));
        TRY(read_path(reader, "source", base, bind.source));
        bind.target = bind.source;
        TRY(reader.read("target", bind.target));
        if (!bind.target.starts_with('/') || bind.target == "/")
            return reader.error("target", fmt::format("\"{}\" is not an absolute path below the "
                                                      "root; begin it with /",
                                                      printable(bind.target)));
        TRY(reader.read("writable", bind.writable));
        binds.push_back(std::move(bind));
    }
    return {};
}

std::string absolute_parent(const std::string& path) {
    std::error_code error;
    const auto absolute = std::filesystem::absolute(path, error);
    return (error ? std::filesystem::path(path) : absolute).parent_path().string();
}

Result<Function> read_function(std::string text, const std::string& origin,
                               const std::string& base_directory) {
    if (text.size() > maximum_text) {
        return fail(ErrorKind::usage, fmt::format("{}: larger than {}; a function file is short",
                                                  origin, format_size(maximum_text)));
    }
    TRY_ASSIGN(const toml::table table, parse_toml(text, origin));
    const TomlReader reader(table, "", origin);
    TRY(reader.check_keys({"name", "command", "directory", "root", "environment", "port", "domain",
                           "readiness", "warmup", "touch", "limits", "clone", "gpu", "bind"}));
    Function function;
    TRY(reader.require("name", "\"my-function\""));
    TRY(read_name(reader, "name", function.name));
    TRY(read_command(reader, function.command));
    function.directory = base_directory;
    TRY(read_path(reader, "directory", base_directory, function.directory));
    TRY(read_path(reader, "root", base_directory, function.root));
    TRY(read_environment(reader, function.environment));
    TRY(reader.read("port", function.port, 1, 65535));
    TRY(read_name(reader, "domain", function.domain));
    TRY(read_readiness(reader, function.port, function.readiness));
    TRY(read_requests(reader, function));
    TRY(read_limits(reader, function.limits));
    TRY(read_clone(reader, function.clone_signal));
    TRY(reader.read("gpu", function.gpu));
    TRY(read_binds(reader, base_directory, function.binds));
    function.text = std::move(text);
    return function;
}

}  // namespace

Result<Function> Function::load(const std::string& path) {
    auto text = read_file(path, maximum_text);
    if (!text) {
        text.error().kind = ErrorKind::usage;
        return std::unexpected(std::move(text.error()).context("function file"));
    }
    return parse(std::move(*text), path, absolute_parent(path));
}

Result<Function> Function::parse(std::string text, const std::string& origin,
                                 const std::string& base_directory) {
    return read_function(std::move(text), origin, base_directory);
}

Result<int> signal_number(std::string_view name) {
    for (int number = 1; number < SIGRTMIN; ++number) {
        const char* abbreviation = sigabbrev_np(number);
        if (!abbreviation || fmt::format("SIG{}", abbreviation) != name) continue;
        if (number == SIGKILL || number == SIGSTOP) break;
        return number;
    }
    return fail(ErrorKind::usage,
                fmt::format("\"{}\" is not a signal that a process can catch; use e.g. SIGUSR2",
                            printable(name)));
}

Result<> check_answer(const WarmupRequest& expected, const HttpResponse& response) {
    const std::string request =
        fmt::format("{} {}", expected.request.method, printable(expected.request.path));
    if (response.status != expected.expect_status) {
        return fail(fmt::format("{}: status {}, expected {}; body \"{}\"", request, response.status,
                                expected.expect_status, printable(response.body)));
    }
    if (!expected.expect_body.empty() && response.body != expected.expect_body) {
        return fail(fmt::format("{}: body \"{}\" ({} bytes), expected \"{}\" ({} bytes)", request,
                                printable(response.body), response.body.size(),
                                printable(expected.expect_body), expected.expect_body.size()));
    }
    if (!expected.expect_contains.empty() && !response.body.contains(expected.expect_contains)) {
        return fail(fmt::format("{}: body \"{}\" ({} bytes) does not contain \"{}\"", request,
                                printable(response.body), response.body.size(),
                                printable(expected.expect_contains)));
    }
    return {};
}

}  // namespace memplate

// SPDX-License-Identifier: Apache-2.0
//
// Result<T>: a value or an Error. Errors are values everywhere in the agent; exceptions thrown by
// libraries are caught at the call that can throw and turned into an Error there.
#pragma once

#include <fmt/format.h>

#include <cerrno>
#include <expected>
#include <source_location>
#include <string>
#include <utility>

namespace memplate {

/// What a failure means to the person at the terminal; decides the exit code (DESIGN.md §5).
enum class ErrorKind {
    failed = 1,         ///< the operation was tried and failed
    usage = 2,          ///< the request itself is wrong
    unsupported = 3,    ///< this machine cannot do it; the message names what is missing
    interrupted = 130,  ///< Ctrl-C or SIGTERM
};

/// One failure: an errno (0 where none applies), one line for a person, and where it was raised.
struct Error {
    ErrorKind kind = ErrorKind::failed;
    int code = 0;
    std::string message;
    std::source_location where = std::source_location::current();

    /// Puts "what: " in front, innermost cause last, as perror(3) orders them.
    Error&& context(std::string_view what) && {
        message = fmt::format("{}: {}", what, message);
        return std::move(*this);
    }
};

template <class T = void>
using Result = std::expected<T, Error>;

using Failure = std::unexpected<Error>;

/// A failure with a message of its own and no errno.
Failure fail(std::string message, std::source_location where = std::source_location::current());
/// A failure of the given kind.
Failure fail(ErrorKind kind, std::string message,
             std::source_location where = std::source_location::current());
/// A failed system call: "what: strerror(err)".
Failure fail_errno(int err, std::string_view what,
                   std::source_location where = std::source_location::current());

}  // namespace memplate

#define MEMPLATE_CONCAT_(a, b) a##b
#define MEMPLATE_CONCAT(a, b) MEMPLATE_CONCAT_(a, b)

/// Returns the error of `expr` from the enclosing function, if it has one.
#define TRY(expr)                                                   \
    do {                                                            \
        if (auto try_result_ = (expr); !try_result_) [[unlikely]]   \
            return std::unexpected(std::move(try_result_.error())); \
    } while (false)

/// As TRY, with "what: " put in front of the message.
#define TRY_CONTEXT(expr, what)                                                   \
    do {                                                                          \
        if (auto try_result_ = (expr); !try_result_) [[unlikely]]                 \
            return std::unexpected(std::move(try_result_.error()).context(what)); \
    } while (false)

#define MEMPLATE_TRY_ASSIGN_(tmp, lhs, expr)            \
    auto tmp = (expr);                                  \
    if (!tmp) [[unlikely]]                              \
        return std::unexpected(std::move(tmp.error())); \
    lhs = std::move(*tmp)

/// `TRY_ASSIGN(auto fd, open_at(...))`: declares or assigns the value, or returns the error.
#define TRY_ASSIGN(lhs, expr) MEMPLATE_TRY_ASSIGN_(MEMPLATE_CONCAT(try_value_, __LINE__), lhs, expr)

// SPDX-License-Identifier: Apache-2.0
#include "util/result.h"

#include <cstring>

namespace memplate {

Failure fail(std::string message, std::source_location where) {
    return Failure(Error{ErrorKind::failed, 0, std::move(message), where});
}

Failure fail(ErrorKind kind, std::string message, std::source_location where) {
    return Failure(Error{kind, 0, std::move(message), where});
}

Failure fail_errno(int err, std::string_view what, std::source_location where) {
    const char* const description = strerrordesc_np(err);  // null for numbers without a name
    return Failure(Error{ErrorKind::failed, err,
                         description != nullptr ? fmt::format("{}: {}", what, description)
                                                : fmt::format("{}: error {}", what, err),
                         where});
}

}  // namespace memplate

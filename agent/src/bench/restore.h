// SPDX-License-Identifier: Apache-2.0
//
// `memplate bench restore`: start methods of a function against each other, in one run,
// interleaved, every answer checked.
#pragma once

#include <string>
#include <vector>

#include "instance/run.h"
#include "util/json.h"

namespace memplate::bench {

enum class Method { cold, copy, lazy, mapped, attached };

[[nodiscard]] std::string_view name_of(Method method);
/// "cold,copy,attached" → methods, each once (kind usage).
[[nodiscard]] Result<std::vector<Method>> parse_methods(const std::string& text);

struct RestoreRequest {
    std::vector<std::string> function_files;
    std::vector<Method> methods;
    unsigned runs = 20;
    unsigned instances = 10;  ///< for the memory part; 0: leave it out
    std::string pool;         ///< where the templates go; empty: a pool that is removed again
    std::string command;      ///< how to repeat it, for the report
};

/// The report (its schema is in bench/README.md). Templates of the functions' names that are in the
/// pool already are replaced.
[[nodiscard]] Result<Json> bench_restore(const Context& context, const RestoreRequest& request);

}  // namespace memplate::bench

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "gpu/cold_start.h"

namespace memplate::gpu {
namespace {

using Values = std::vector<std::string>;

struct Factor {
    const char* option;
    Values StartFactors::* values;
    std::string StartVariant::* value;
    Values known;
};

const std::array<Factor, 4>& factors_of_a_start() {
    static const std::array<Factor, 4> factors = {
        {{"--module",
          &StartFactors::module,
          &StartVariant::module,
          {"sass", "ptx", "ptx-uncached"}},
         {"--loading", &StartFactors::loading, &StartVariant::loading, {"lazy", "eager"}},
         {"--copy", &StartFactors::copy, &StartVariant::copy, {"pageable", "pinned"}},
         {"--page-cache", &StartFactors::page_cache, &StartVariant::page_cache, {"warm", "cold"}}}};
    return factors;
}

Result<> check(const Factor& factor, const Values& values) {
    if (values.empty()) return fail(ErrorKind::usage, fmt::format("{}: no value", factor.option));
    for (auto value = values.begin(); value != values.end(); ++value) {
        if (std::ranges::find(factor.known, *value) == factor.known.end())
            return fail(ErrorKind::usage, fmt::format("{} {}: there are {}", factor.option, *value,
                                                      fmt::join(factor.known, ", ")));
        if (std::find(values.begin(), value, *value) != value)
            return fail(ErrorKind::usage,
                        fmt::format("{}: {} is given twice", factor.option, *value));
    }
    return {};
}

}  // namespace

std::string StartVariant::name() const {
    return fmt::format("{}-{}-{}-{}", module, loading, copy, page_cache);
}

Result<std::vector<StartVariant>> make_variants(const StartFactors& factors) {
    StartVariant base;
    for (const Factor& factor : factors_of_a_start()) {
        TRY(check(factor, factors.*factor.values));
        base.*factor.value = (factors.*factor.values).front();
    }
    std::vector<StartVariant> variants = {base};
    for (const Factor& factor : factors_of_a_start()) {
        const Values& values = factors.*factor.values;
        // What the value is put into: all there are so far, or the base alone.
        const size_t so_far = factors.combine ? variants.size() : 1;
        for (size_t value = 1; value < values.size(); ++value)
            for (size_t known = 0; known < so_far; ++known) {
                StartVariant variant = variants[known];
                variant.*factor.value = values[value];
                variants.push_back(std::move(variant));
            }
    }
    return variants;
}

}  // namespace memplate::gpu

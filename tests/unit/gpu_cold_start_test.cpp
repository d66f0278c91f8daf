// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <set>

#include "gpu/cold_start.h"

namespace memplate::gpu {
namespace {

std::vector<std::string> names_of(const StartFactors& factors) {
    const auto variants = make_variants(factors);
    EXPECT_TRUE(variants);
    std::vector<std::string> names;
    for (const StartVariant& variant : *variants) names.push_back(variant.name());
    return names;
}

TEST(MakeVariants, ChangesOneFactorAtATime) {
    EXPECT_EQ(names_of({}), (std::vector<std::string>{
                                "sass-lazy-pageable-warm", "ptx-lazy-pageable-warm",
                                "ptx-uncached-lazy-pageable-warm", "sass-eager-pageable-warm",
                                "sass-lazy-pinned-warm", "sass-lazy-pageable-cold"}));
}

TEST(MakeVariants, TakesTheFirstValuesAsTheBase) {
    const StartFactors factors{.module = {"ptx", "sass"},
                               .loading = {"eager"},
                               .copy = {"pinned"},
                               .page_cache = {"cold"}};
    EXPECT_EQ(names_of(factors),
              (std::vector<std::string>{"ptx-eager-pinned-cold", "sass-eager-pinned-cold"}));
}

TEST(MakeVariants, Combines) {
    StartFactors factors;
    factors.combine = true;
    const auto names = names_of(factors);
    EXPECT_EQ(names.size(), 3U * 2 * 2 * 2);
    EXPECT_EQ(std::set(names.begin(), names.end()).size(), names.size());
    EXPECT_EQ(names.front(), "sass-lazy-pageable-warm");
}

TEST(MakeVariants, RefusesWhatThereIsNot) {
    const auto error_of = [](const StartFactors& factors) {
        const auto variants = make_variants(factors);
        EXPECT_FALSE(variants);
        EXPECT_EQ(variants.error().kind, ErrorKind::usage);
        return variants.error().message;
    };
    StartFactors factors;
    factors.module = {"sass", "spirv"};
    EXPECT_EQ(error_of(factors), "--module spirv: there are sass, ptx, ptx-uncached");
    factors.module = {"ptx", "ptx"};
    EXPECT_EQ(error_of(factors), "--module: ptx is given twice");
    factors.module.clear();
    EXPECT_EQ(error_of(factors), "--module: no value");
}

TEST(PhaseTitle, FallsBackToTheName) {
    EXPECT_EQ(phase_title("cuinit"), "cuInit");
    EXPECT_EQ(phase_title("something_new"), "something_new");
}

}  // namespace
}  // namespace memplate::gpu

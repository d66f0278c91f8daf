// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <numeric>
#include <string>
#include <vector>

#include "util/fd.h"
#include "util/hash.h"

namespace memplate {
namespace {

uint32_t crc_of(const std::string& text, uint32_t seed = 0) {
    return crc32c(bytes_of(text), seed);
}

TEST(Crc32c, KnownVectors) {
    EXPECT_EQ(crc_of("123456789"), 0xe3069283u);
    EXPECT_EQ(crc_of(""), 0u);
    // RFC 3720, appendix B.4.
    EXPECT_EQ(crc_of(std::string(32, '\0')), 0x8a9136aau);
    EXPECT_EQ(crc_of(std::string(32, '\xff')), 0x62a8ab43u);
    std::string rising(32, '\0');
    std::iota(rising.begin(), rising.end(), '\0');
    EXPECT_EQ(crc_of(rising), 0x46dd794eu);
    EXPECT_EQ(crc_of(std::string(rising.rbegin(), rising.rend())), 0x113fdb5cu);
}

TEST(Crc32c, ContinuesOverBuffers) {
    std::string text(10'000, '\0');
    std::iota(text.begin(), text.end(), '\0');
    const uint32_t whole = crc_of(text);
    for (const size_t cut : {0, 1, 7, 4096, 9'999, 10'000})
        EXPECT_EQ(crc_of(text.substr(cut), crc_of(text.substr(0, cut))), whole) << cut;
}

TEST(Xxh3, KnownVectors) {
    EXPECT_EQ(Xxh3Stream().hex(), "99aa06d3014798d86001c324468d497f");
    const auto hex_of = [](const std::string& text) {
        Xxh3Stream stream;
        stream.update(bytes_of(text));
        return stream.hex();
    };
    // From the one-shot XXH3_128bits() with XXH_VECTOR=0, its portable scalar code.
    EXPECT_EQ(hex_of("a"), "a96faf705af16834e6c632b61e964e1f");
    EXPECT_EQ(hex_of("abc"), "06b05ab6733a618578af5f94892f3950");
}

TEST(Xxh3, DoesNotDependOnHowTheStreamIsCut) {
    std::vector<unsigned char> data(5'000);
    std::iota(data.begin(), data.end(), static_cast<unsigned char>(3));
    const auto bytes = std::as_bytes(std::span(data));
    Xxh3Stream whole;
    whole.update(bytes);
    Xxh3Stream pieces;
    for (size_t at = 0; at < bytes.size(); at += 777)
        pieces.update(bytes.subspan(at, std::min<size_t>(777, bytes.size() - at)));
    EXPECT_EQ(whole.hex(), pieces.hex());
    EXPECT_EQ(whole.hex().size(), 32u);
    data[4'999] ^= 1;
    Xxh3Stream changed;
    changed.update(bytes);
    EXPECT_NE(whole.hex(), changed.hex());
}

}  // namespace
}  // namespace memplate

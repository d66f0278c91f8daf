// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "cost/functracer.h"
#include "cost/price.h"

namespace memplate::cost {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

const std::string prices = MEMPLATE_PRICES;

PriceProfile profile(const std::string& name) {
    const auto profiles = load_profiles(prices);
    EXPECT_TRUE(profiles) << profiles.error().message;
    auto found = find_profile(*profiles, name);
    EXPECT_TRUE(found) << found.error().message;
    return *found;
}

Bill bill_of(const std::string& name, const Usage& usage) {
    auto bill = price(profile(name), usage);
    EXPECT_TRUE(bill) << bill.error().message;
    return *bill;
}

TEST(CostDecimal, ParsesAndPrints) {
    EXPECT_EQ(Decimal::parse("1.667e-5")->text(), "0.00001667");
    EXPECT_EQ(Decimal::parse("-0.5")->text(), "-0.5");
    EXPECT_EQ(Decimal::parse("2E3")->text(), "2000");
    EXPECT_EQ(Decimal::parse("0")->text(2), "0.00");
    EXPECT_EQ(Decimal::parse("1e-20")->text(), "0.00000000000000000001");
    for (const char* bad : {"", ".", "-", "1,5", "1e", "1e-21", "0x1", "1.2.3", "nan", "1e400",
                            "1e30", "999999999999999999999999999999999999999999", " 1", "1 "})
        EXPECT_FALSE(Decimal::parse(bad)) << bad;
}

TEST(CostDecimal, ExponentsOutOfRangeAreRefused) {
    for (const char* bad : {"0e-2147483648", "0.0e-2147483648", "1e2147483647", "1e41"})
        EXPECT_FALSE(Decimal::parse(bad)) << bad;
}

TEST(CostProfile, AmountsBelowACentKeepTwoDigits) {
    const PriceProfile aws = profile("aws-2020");
    EXPECT_EQ(aws.money(*Decimal::parse("0.000000616")), "$0.00000062");
    EXPECT_EQ(aws.money(*Decimal::parse("0.0099")), "$0.0099");
    EXPECT_EQ(aws.money(*Decimal::parse("0.01")), "$0.01");
    EXPECT_EQ(aws.money(Decimal(0)), "$0.00");
}

TEST(CostDecimal, RoundsHalfUp) {
    EXPECT_EQ(Decimal::parse("0.125")->text(2), "0.13");
    EXPECT_EQ(Decimal::parse("-0.125")->text(2), "-0.13");
    EXPECT_EQ(Decimal::parse("0.1249999")->text(2), "0.12");
    EXPECT_EQ(Decimal::parse("9.995")->text(2), "10.00");
    EXPECT_EQ(Decimal::parse("-0.001")->text(2), "0.00");
    EXPECT_EQ(Decimal::parse("7.5")->text(0), "8");
}

TEST(CostDecimal, DividesLikeLonghand) {
    EXPECT_EQ(Decimal(1).divided_by(Decimal(3)).text(), "0.33333333333333333333");
    EXPECT_EQ(Decimal(-2).divided_by(Decimal(3)).text(), "-0.66666666666666666666");
    EXPECT_EQ(Decimal(1).times(2, 3).text(), "0.66666666666666666666");
    EXPECT_EQ(Decimal(1).times(2, 3, Decimal::Rounding::half_up).text(), "0.66666666666666666667");
    EXPECT_FALSE(Decimal(1).divided_by(Decimal(0)).valid());
}

TEST(CostDecimal, OverflowIsMarkedAndStays) {
    const Decimal large(INT64_C(1'000'000'000'000'000'000));
    EXPECT_TRUE(large.valid());
    EXPECT_FALSE((large + large).valid());
    EXPECT_FALSE(large.times(1000).valid());
    EXPECT_FALSE((large + large - large).valid());
    EXPECT_FALSE((large + large).times(0).valid());
    // The product alone would not fit, the result does.
    EXPECT_EQ(large.times(1000, 1000).text(), "1000000000000000000");
    EXPECT_EQ(Decimal(1'000'000'000'000).times(1'000'000'000'000'001, 999'999'999'999'999).text(),
              "1000000000000.002000000000000002");
    EXPECT_FALSE(Decimal(INT64_MAX).valid());
}

// functracer's first golden example.
TEST(CostPrice, GoldenOne) {
    const Bill bill = bill_of("aws-2020", {.memory_bytes = 810'766'336, .duration_ms = 3652});
    EXPECT_EQ(bill.used_mb, 774u);
    EXPECT_EQ(bill.billed_mb, 832u);
    EXPECT_EQ(bill.units, 37u);
    EXPECT_EQ(bill.total.text(), "50.298");
    EXPECT_EQ(bill.net.text(6), "46.200978");
    EXPECT_EQ(bill.overhead.text(6), "4.097022");
    EXPECT_EQ(bill.memory_increase_percent.text(6), "7.461101");
    EXPECT_EQ(bill.time_increase_percent.text(6), "1.308659");
    EXPECT_EQ(bill.wasted_ms(), 48u);
    EXPECT_EQ(bill.wasted_mb(), 58u);
}

TEST(CostPrice, GoldenTwo) {
    Usage usage{.memory_bytes = 50 << 20, .duration_ms = 105};
    const Bill small = bill_of("aws-2020", usage);
    EXPECT_EQ(small.billed_mb, 128u);
    EXPECT_EQ(small.units, 2u);
    EXPECT_EQ(small.total.text(), "0.616");
    EXPECT_EQ(small.net.text(), "0.2853125");
    EXPECT_EQ(small.overhead.text(), "0.3306875");
    EXPECT_EQ(small.memory_increase_percent.text(6), "46.646221");
    EXPECT_EQ(small.time_increase_percent.text(6), "27.053669");
    EXPECT_EQ(small.wasted_ms(), 95u);
    EXPECT_EQ(small.wasted_mb(), 78u);

    usage.reserved_bytes = 256 << 20;
    const Bill tier = bill_of("aws-2020", usage);
    EXPECT_EQ(tier.billed_mb, 256u);
    EXPECT_EQ(tier.total.text(), "1.034");
    EXPECT_EQ(tier.net.text(6), "0.285518");
    EXPECT_EQ(tier.overhead.text(6), "0.748482");
    EXPECT_EQ(tier.memory_increase_percent.text(2), "123.40");
    EXPECT_EQ(tier.time_increase_percent.text(2), "27.10");
    EXPECT_EQ(tier.wasted_mb(), 206u);
}

// What AWS listed in 2020 for 100 ms of each size, in units of 10^-9 $.
TEST(CostPrice, AllTiersOf2020) {
    constexpr std::array<int, 46> nano = {
        208,  313,  417,  521,  625,  729,  834,  938,  1042, 1146, 1250, 1354,
        1459, 1563, 1667, 1771, 1875, 1980, 2084, 2188, 2292, 2396, 2501, 2605,
        2709, 2813, 2917, 3021, 3126, 3230, 3334, 3438, 3542, 3647, 3751, 3855,
        3959, 4063, 4168, 4272, 4376, 4480, 4584, 4688, 4793, 4897};
    const PriceProfile aws = profile("aws-2020");
    for (size_t i = 0; i < nano.size(); i++) {
        const uint64_t mb = 128 + 64 * i;
        const auto bill = price(aws, {.memory_bytes = mb << 20, .duration_ms = 100});
        ASSERT_TRUE(bill);
        EXPECT_EQ(bill->billed_mb, mb);
        EXPECT_EQ(bill->memory_cost, Decimal(nano[i]).times(1, 1000)) << mb << " MB";
        EXPECT_EQ(bill->memory_cost, bill->net - bill->request_cost) << mb << " MB";
    }
    EXPECT_FALSE(price(aws, {.memory_bytes = (uint64_t{3008} << 20) + 1, .duration_ms = 100}));
}

TEST(CostPrice, AnyNumberOfRequests) {
    const Bill one =
        bill_of("aws-2020", {.memory_bytes = 50 << 20, .duration_ms = 105, .requests = 1});
    EXPECT_EQ(one.total.text(), "0.000000616");
    const Bill many = bill_of(
        "aws-2020", {.memory_bytes = 50 << 20, .duration_ms = 105, .requests = 1'000'000'000'000});
    EXPECT_EQ(many.total.text(), "616000");
    EXPECT_EQ(many.net.text(), "285312.5");
}

TEST(CostPrice, FreeTierEndsAtZero) {
    Usage usage{
        .memory_bytes = 128 << 20, .duration_ms = 100, .requests = 1'000'000, .free_tier = true};
    const Bill nothing = bill_of("aws-x86", usage);
    EXPECT_TRUE(nothing.total.is_zero());
    EXPECT_FALSE(nothing.memory_increase_percent.valid());
    usage.requests = 100'000'000;  // 1,250,000 GB-s
    const Bill some = bill_of("aws-x86", usage);
    EXPECT_EQ(some.request_cost.text(), "19.8");
    EXPECT_EQ(some.memory_cost, Decimal::parse("1.66667e-5")->times(850'000));
}

TEST(CostPrice, VolumeRatesApplyAboveTheirThreshold) {
    // 20e9 GB-s: 6e9 at the first rate, 9e9 at the second, 5e9 at the third.
    const Bill bill = bill_of(
        "aws-x86",
        {.memory_bytes = uint64_t{1} << 30, .duration_ms = 1000, .requests = 20'000'000'000});
    EXPECT_EQ(bill.memory_cost.text(), "301667.2");
}

TEST(CostPrice, GoldenOneUnderTodaysLists) {
    const Usage usage{.memory_bytes = 810'766'336, .duration_ms = 3652};
    EXPECT_EQ(bill_of("aws-x86", usage).total.text(2), "46.21");
    EXPECT_EQ(bill_of("aws-arm64", usage).total.text(2), "37.01");
    EXPECT_EQ(bill_of("aws-x86", usage).overhead.text(2), "0.00");
}

TEST(CostPrice, CpuComesWithTheSizeOrIsOrdered) {
    // 1024 MB and 1.4 GHz for 3,700 ms: 2.5e-6 × 1 × 3.7 + 1e-5 × 1.4 × 3.7 a request.
    const Bill gcf = bill_of("gcf-gen1", {.memory_bytes = 810'766'336, .duration_ms = 3652});
    EXPECT_EQ(gcf.billed_mb, 1024u);
    EXPECT_EQ(gcf.cpu_milli, 1400u);
    EXPECT_EQ(gcf.memory_cost.text(), "9.25");
    EXPECT_EQ(gcf.cpu_cost.text(), "51.8");
    EXPECT_EQ(gcf.request_cost.text(), "0.4");
    const Usage usage{.memory_bytes = 512 << 20, .duration_ms = 1000, .cpu_milli = 500};
    const Bill run = bill_of("cloud-run", usage);
    EXPECT_EQ(run.cpu_cost.text(), "12");
    EXPECT_EQ(run.memory_cost.text(), "1.25");
}

TEST(CostPrice, MinimaAndSteps) {
    const Bill azure = bill_of("azure-consumption", {.memory_bytes = 129 << 20, .duration_ms = 7});
    EXPECT_EQ(azure.billed_mb, 256u);
    EXPECT_EQ(azure.billed_ms, 100u);
    EXPECT_EQ(azure.wasted_ms(), 93u);
    const Bill flex = bill_of("azure-flex", {.memory_bytes = 513 << 20, .duration_ms = 1001});
    EXPECT_EQ(flex.billed_mb, 2048u);
    EXPECT_EQ(flex.billed_ms, 1100u);
    const Bill ibm = bill_of("ibm-functions", {.memory_bytes = 200 << 20, .duration_ms = 150});
    EXPECT_EQ(ibm.billed_mb, 200u);
    EXPECT_EQ(ibm.billed_ms, 200u);
    EXPECT_TRUE(ibm.request_cost.is_zero());
}

TEST(CostPrice, NothingUsedCostsTheRequestsOnly) {
    const Bill bill = bill_of("aws-2020", {.memory_bytes = 0, .duration_ms = 0});
    EXPECT_EQ(bill.total.text(), "0.2");
    EXPECT_EQ(bill.net.text(), "0.2");
}

TEST(CostPrice, RefusesWhatCannotBeMeant) {
    const PriceProfile aws = profile("aws-2020");
    EXPECT_FALSE(price(aws, {.memory_bytes = 1, .duration_ms = 1, .requests = 0}));
    EXPECT_FALSE(price(aws, {.memory_bytes = UINT64_MAX, .duration_ms = 1}));
    EXPECT_FALSE(price(aws, {.memory_bytes = 1, .duration_ms = UINT64_MAX}));
    const auto small =
        price(aws, {.memory_bytes = 300 << 20, .duration_ms = 1, .reserved_bytes = 256 << 20});
    ASSERT_FALSE(small);
    EXPECT_EQ(small.error().kind, ErrorKind::usage);
    EXPECT_THAT(small.error().message, HasSubstr("256 MB, is below the 300 MB"));
}

TEST(CostProfile, EveryInstalledOneIsSoundAndSaysWhatIsUnverified) {
    const auto profiles = load_profiles(prices);
    ASSERT_TRUE(profiles) << profiles.error().message;
    EXPECT_EQ(profiles->size(), 11u);
    for (const PriceProfile& one : *profiles) {
        EXPECT_THAT(one.file, HasSubstr(one.name + ".toml"));
        const auto bill = price(one, {.memory_bytes = 100 << 20, .duration_ms = 1234});
        ASSERT_TRUE(bill) << one.name;
        EXPECT_GT(bill->total, bill->net - Decimal(1)) << one.name;
        EXPECT_GE(bill->total, bill->net) << one.name;
        for (const std::string& key : one.unverified)
            EXPECT_THAT(bill_text(one, *bill), HasSubstr(key)) << one.name;
    }
}

TEST(CostProfile, TheNewestOfANameCounts) {
    PriceProfile old = profile("aws-x86");
    PriceProfile later = old;
    later.effective = "2031-01-01";
    const auto found = find_profile({old, later}, "aws-x86");
    ASSERT_TRUE(found);
    EXPECT_EQ(found->effective, "2031-01-01");
    const auto unknown = find_profile({old}, "aws");
    ASSERT_FALSE(unknown);
    EXPECT_THAT(unknown.error().message, HasSubstr("known: aws-x86"));
}

constexpr const char* good = R"(name = "x"
provider = "p"
region = "r"
currency = "EUR"
effective = "2026-01-01"
source = "s"
[memory]
minimum_mb = 1
maximum_mb = 10
[price]
per_gb_second = "1"
)";

TEST(CostProfile, ErrorsNameFileLineAndKey) {
    ASSERT_TRUE(PriceProfile::parse(good, "p.toml"));
    const auto refusal = [](const std::string& from, const std::string& to) {
        std::string text = good;
        text.replace(text.find(from), from.size(), to);
        const auto parsed = PriceProfile::parse(text, "p.toml");
        EXPECT_FALSE(parsed) << to;
        if (parsed) return std::string();
        EXPECT_EQ(parsed.error().kind, ErrorKind::usage) << to;
        EXPECT_EQ(parsed.error().message.find('\n'), std::string::npos) << to;
        return parsed.error().message;
    };
    EXPECT_THAT(refusal("per_gb_second = \"1\"", "per_gb_second = 1"),
                StartsWith("p.toml:11: price.per_gb_second: "));
    EXPECT_THAT(refusal("\"1\"", "\"-1\""), HasSubstr("not an amount"));
    EXPECT_THAT(refusal("\"1\"", "\"1,5\""), HasSubstr("not an amount"));
    EXPECT_THAT(refusal("2026-01-01", "soon"), StartsWith("p.toml:5: effective: "));
    EXPECT_THAT(refusal("source = \"s\"", ""), HasSubstr("source: missing"));
    EXPECT_THAT(refusal("currency", "colour"), HasSubstr("unknown key"));
    EXPECT_THAT(refusal("maximum_mb = 10", ""), HasSubstr("maximum_mb"));
    EXPECT_THAT(refusal("[memory]\nminimum_mb = 1\nmaximum_mb = 10\n", ""), HasSubstr("[[size]]"));
    EXPECT_THAT(refusal("source = \"s\"", "source = \"s\"\nunverified = [\"price.nosuch\"]"),
                HasSubstr("price.nosuch"));
    EXPECT_THAT(refusal("[price]", "[price"), StartsWith("p.toml:10: not valid TOML"));
    EXPECT_THAT(refusal("[price]", "[[size]]\nmb = 5\n[[size]]\nmb = 5\n[price]"),
                HasSubstr("sort"));
}

// Vectors made with bc(1) and the formulas of the row, not with functracer's data.
TEST(CostFunctracer, RowsAreAsBcPrintsThem) {
    EXPECT_EQ(
        functracer_row(bill_of("aws-2020", {.memory_bytes = 810'766'336, .duration_ms = 3652})),
        "3652 774 37   832 50.298000000    46.20097826923051640000    "
        "4.09702173076948360000\n");
    EXPECT_EQ(functracer_row(bill_of("aws-2020", {.memory_bytes = 50 << 20, .duration_ms = 105})),
              "105 50 2   128 .616000000    .28531250000000000000    .33068750000000000000\n");
}

TEST(CostFunctracer, ReportOfGoldenOne) {
    const Bill bill = bill_of("aws-2020", {.memory_bytes = 810'766'336, .duration_ms = 3652});
    const std::string text = functracer_report(bill, 810'766'336);
    for (const char* part :
         {"810766336 bytes", "3652 milliseconds", "774 MB used, 832 MB", "37 units", "$50.30",
          "$46.20", "$4.10", "7.46%", "1.31%", "48 milliseconds", "Wasted memory: 58 MB"})
        EXPECT_THAT(text, HasSubstr(part));
}

}  // namespace
}  // namespace memplate::cost

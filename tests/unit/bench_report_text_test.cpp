// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/report.h"
#include "bench/report_numbers.h"
#include "util/text.h"

namespace memplate {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

Json times(double p50, double p99) {
    return {{"p50", p50}, {"p99", p99}, {"n", 20}};
}

Json memory(double pss, double own) {
    return {{"instances", 10},
            {"idle_pss", pss},
            {"after_request_pss", pss + 1},
            {"after_touch_pss", pss * 2},
            {"private", own},
            {"after_touch_private", own * 2}};
}

Json full_report() {
    Json big = {
        {"name", "big-state"},
        {"template", {{"mb", 219.0}}},
        {"runs", 20},
        {"methods",
         {{"mapped",
           {{"ready_ms", times(5.5, 7.25)},
            {"first_answer_ms", times(6.9, 9.1)},
            {"touch_ms", times(290, 310)},
            {"memory10_mb", memory(24, 21)}}},
          {"copy",
           {{"ready_ms", times(130, 140)},
            {"first_answer_ms", times(131, 142)},
            {"touch_ms", times(237, 250)},
            {"memory10_mb", memory(2086, 2079)}}},
          {"cold", {{"ready_ms", times(640, 700)}, {"first_answer_ms", times(655, 710)}}}}}};
    Json small = {{"name", "hello"},
                  {"template", {{"mb", 23.0}}},
                  {"methods",
                   {{"copy", {{"first_answer_ms", times(25, 30)}}},
                    {"mapped", {{"first_answer_ms", times(5, 6)}}}}}};
    return {{"functions", {small, big}}, {"answers_checked", 1284}, {"answers_wrong", 0}};
}

/// The words of the first line that starts with `word`.
std::vector<std::string> line_words(const std::string& text, const std::string& word) {
    for (const std::string& line : split(text, '\n')) {
        if (!line.starts_with(word + " ")) continue;
        std::vector<std::string> words = split(line, ' ');
        std::erase(words, "");
        return words;
    }
    return {};
}

TEST(ReportNumbers, AreWrittenAsPeopleReadThem) {
    EXPECT_EQ(report::grouped(2086.4), "2,086");
    EXPECT_EQ(report::grouped(999), "999");
    EXPECT_EQ(report::grouped(-1234567.25, 1), "-1,234,567.2");
    EXPECT_EQ(report::grouped(-123), "-123");
    EXPECT_EQ(report::amount(0.4), "0.40");
    EXPECT_EQ(report::amount(0.996), "1.0");
    EXPECT_EQ(report::amount(6.93), "6.9");
    EXPECT_EQ(report::amount(99.96), "100");
    EXPECT_EQ(report::milliseconds(131.2), "131 ms");
    EXPECT_EQ(report::milliseconds(12340), "12.3 s");
    EXPECT_EQ(report::megabytes(2.16), "2.2 MB");
    EXPECT_EQ(report::megabytes(9.96), "10 MB");
}

TEST(ReportNumbers, RatiosSayWhichIsFaster) {
    EXPECT_EQ(report::speed(131, 6.9), "19.0× faster");
    EXPECT_EQ(report::speed(100, 130), "1.3× slower");
    EXPECT_EQ(report::speed(1000, 1.5), "667× faster");
    EXPECT_EQ(report::speed(100, 101), "as fast");
    EXPECT_EQ(report::speed(0, 5), std::nullopt);
    EXPECT_EQ(report::speed(5, 0), std::nullopt);
    EXPECT_EQ(report::speed(std::nullopt, 5), std::nullopt);
    EXPECT_EQ(report::share(2086, 24), "1.2 %");
    EXPECT_EQ(report::share(100, 108), "108 %");
    EXPECT_EQ(report::share(0, 1), std::nullopt);
}

TEST(ReportNumbers, MethodsComeInTheirOrderOthersLast) {
    const Json function = {{"methods",
                            {{"zygote", Json::object()},
                             {"warm", Json::object()},
                             {"broken", 7},
                             {"attached", Json::object()},
                             {"cold", Json::object()},
                             {"copy", Json::object()}}}};
    EXPECT_THAT(report::methods(function),
                ElementsAre("cold", "copy", "attached", "warm", "zygote"));
}

TEST(ReportNumbers, OursIsTheFasterOfMappedAndAttached) {
    Json function = {{"methods",
                      {{"mapped", {{"first_answer_ms", times(7, 8)}}},
                       {"attached", {{"first_answer_ms", times(3, 4)}}},
                       {"copy", {{"first_answer_ms", times(1, 1)}}}}}};
    EXPECT_EQ(report::own_method(function), "attached");
    function["methods"]["mapped"]["first_answer_ms"]["p50"] = 2;
    EXPECT_EQ(report::own_method(function), "mapped");
    function["methods"].erase("mapped");
    function["methods"].erase("attached");
    EXPECT_EQ(report::own_method(function), std::nullopt);
}

TEST(ReportHeadline, IsAboutTheLargestTemplate) {
    EXPECT_EQ(report_headline(full_report()),
              "big-state: first answer in 6.9 ms instead of 131 ms, "
              "10 instances in 24 MB instead of 2,086 MB");
}

TEST(ReportHeadline, SaysOnlyWhatWasMeasured) {
    Json report = full_report();
    Json& methods = report["functions"][1]["methods"];
    methods["copy"].erase("memory10_mb");
    methods["mapped"]["memory10_mb"]["instances"] = 5;
    EXPECT_EQ(report_headline(report),
              "big-state: first answer in 6.9 ms instead of 131 ms, 5 instances in 24 MB");
    methods["copy"].erase("first_answer_ms");
    EXPECT_THAT(report_headline(report), HasSubstr("ready in 5.5 ms instead of 130 ms"));
    methods.erase("copy");
    methods["mapped"].erase("memory10_mb");
    EXPECT_EQ(report_headline(report), "big-state: first answer in 6.9 ms");
    methods.erase("mapped");
    EXPECT_EQ(report_headline(report), "hello: first answer in 5.0 ms instead of 25.0 ms");
    report["functions"][0]["methods"].erase("mapped");
    EXPECT_EQ(report_headline(report), "Start times: hello, big-state");
    EXPECT_EQ(report_headline(Json::object()), "Nothing was measured");
}

TEST(ReportText, TablesHaveTheNumbersAndRatios) {
    const std::string text = report_summary_text(full_report(), false);
    const std::string big = text.substr(text.find("\nbig-state"));
    EXPECT_THAT(big, HasSubstr("big-state, 219 MB template, 20 runs per method: times in ms\n"));
    EXPECT_THAT(line_words(big, "cold"),
                ElementsAre("cold", "640", "700", "655", "710", "-", "-", "5.0×", "slower"));
    EXPECT_THAT(line_words(big, "copy"),
                ElementsAre("copy", "130", "140", "131", "142", "237", "250", "-"));
    EXPECT_THAT(line_words(big, "mapped"),
                ElementsAre("mapped", "5.5", "7.2", "6.9", "9.1", "290", "310", "19.0×", "faster"));
    const std::string memory = big.substr(big.find("big-state: memory of 10 instances, MB (PSS)"));
    EXPECT_THAT(line_words(memory, "mapped"),
                ElementsAre("mapped", "24", "21", "25", "48", "42", "1.2", "%"));
    EXPECT_TRUE(line_words(memory, "cold").empty());  // its memory was not measured
    EXPECT_THAT(text, HasSubstr("1,284 answers checked, 0 wrong\n"));
}

TEST(ReportText, FitsHundredColumns) {
    for (const bool colour : {false, true})
        for (std::string line : split(report_summary_text(full_report(), colour), '\n')) {
            std::erase_if(line,
                          [](char c) { return (static_cast<unsigned char>(c) & 0xc0) == 0x80; });
            EXPECT_LE(line.size(), colour ? 108u : 100u) << line;
        }
}

TEST(ReportText, WrongAnswersCannotBeOverlooked) {
    Json report = full_report();
    report["answers_wrong"] = 3;
    EXPECT_THAT(report_summary_text(report, false),
                HasSubstr("WRONG ANSWERS: 3 of 1,284 checked; the restores are not correct\n"));
    EXPECT_THAT(report_summary_text(report, true), HasSubstr("\x1b[1;31mWRONG ANSWERS: 3"));
    report.erase("answers_wrong");
    EXPECT_THAT(report_summary_text(report, false), HasSubstr("answers were not checked"));
    report["answers_wrong"] = 0;
    report["answers_checked"] = 0;
    EXPECT_THAT(report_summary_text(report, false), HasSubstr("answers were not checked"));
}

TEST(ReportText, ColourOnlyWhenAsked) {
    EXPECT_THAT(report_summary_text(full_report(), false), Not(HasSubstr("\x1b")));
    EXPECT_THAT(report_summary_text(full_report(), true), HasSubstr("\x1b[1mbig-state: first"));
}

TEST(ReportText, MissingFieldsLeaveColumnsOut) {
    const Json report = Json::parse(
        R"({"functions":[{"name":"a","methods":{"mapped":{"ready_ms":{"p50":3,"p99":null}}}},
                         {"name":"b\u001b[2J","methods":{}},{"methods":7}]})");
    const std::string text = report_summary_text(report, true);
    EXPECT_THAT(text, HasSubstr("method  ready p50\x1b[0m\nmapped        3.0\n"));
    EXPECT_THAT(text, HasSubstr("b?[2J: nothing was measured\n"));
    EXPECT_THAT(text, HasSubstr("function: nothing was measured\n"));
}

}  // namespace
}  // namespace memplate

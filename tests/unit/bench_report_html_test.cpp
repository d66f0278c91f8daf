// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/report.h"

namespace memplate {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

/// What is between two marks, which must both be there.
std::string between(const std::string& text, const std::string& from, const std::string& to) {
    const size_t start = text.find(from);
    EXPECT_NE(start, std::string::npos) << from;
    if (start == std::string::npos) return {};
    const size_t end = text.find(to, start + from.size());
    EXPECT_NE(end, std::string::npos) << to;
    return text.substr(start + from.size(), end - start - from.size());
}

std::string data_of(const std::string& page) {
    return between(page, R"(<script type="application/json" id="report">)", "</script>");
}

Json report_named(const std::string& name) {
    return Json{{"schema", 1},
                {"functions",
                 {{{"name", name},
                   {"methods",
                    {{"copy", {{"first_answer_ms", {{"p50", 131.0}}}}},
                     {"mapped", {{"first_answer_ms", {{"p50", 6.9}}}}}}}}}}};
}

TEST(ReportHtml, EmbedsTheReportUnchanged) {
    const Json report = report_named("big-state");
    EXPECT_EQ(Json::parse(data_of(render_report_html(report))), report);
}

TEST(ReportHtml, NamesCannotBecomeMarkup) {
    const std::string hostile = "</script><script>alert(1)</script><!--<b>&\"{{style}}";
    const Json report = report_named(hostile);
    const std::string page = render_report_html(report);
    EXPECT_EQ(Json::parse(data_of(page))["functions"][0]["name"], hostile);
    EXPECT_THAT(page, Not(HasSubstr("<script>alert")));
    EXPECT_THAT(page, Not(HasSubstr("<!--<b>")));
    EXPECT_THAT(between(page, "<title>", "</title>"),
                HasSubstr("&lt;/script&gt;&lt;script&gt;alert(1)&lt;/script&gt;&lt;!--&lt;b&gt;"
                          "&amp;&quot;{{style}}"));
}

TEST(ReportHtml, EveryMarkOfThePageIsFilled) {
    const std::string page = render_report_html(report_named("hello"));
    EXPECT_THAT(page, Not(HasSubstr("{{")));
    EXPECT_THAT(page, HasSubstr("prefers-color-scheme: dark"));
    EXPECT_THAT(page, HasSubstr("function drawTimes("));
    EXPECT_THAT(page, HasSubstr("function phasesFigure("));
    EXPECT_THAT(page, HasSubstr("function section("));
}

TEST(ReportHtml, LoadsNothingFromElsewhere) {
    std::string page = render_report_html(report_named("hello"));
    const std::string name_space = "'http://www.w3.org/2000/svg'";  // a name, never fetched
    const size_t at = page.find(name_space);
    ASSERT_NE(at, std::string::npos);
    page.erase(at, name_space.size());
    for (const char* trace : {"http:", "https:", "src=\"", "@import", "url(", "fetch("})
        EXPECT_THAT(page, Not(HasSubstr(trace))) << trace;
    EXPECT_THAT(page, HasSubstr("default-src 'none'"));
}

TEST(ReportHtml, HeadlineEmphasisesOurNumbersAndNamesItsFunction) {
    Json report = report_named("big-state");
    report["functions"].insert(report["functions"].begin(), 1);  // not a function: skipped
    const std::string page = render_report_html(report);
    EXPECT_THAT(page, HasSubstr("<h1 data-function=\"1\">big-state: first answer in "
                                "<em>6.9 ms</em> instead of <span>131 ms</span></h1>"));
}

TEST(ReportHtml, NumbersAreThereWithoutScripts) {
    const std::string text =
        between(render_report_html(report_named("big-state")), "<noscript>", "</noscript>");
    EXPECT_THAT(text, HasSubstr("19.0× faster"));
}

TEST(ReportHtml, AnyShapeOfReportGivesAPage) {
    for (const char* text :
         {"{}", "[]", "null", "7", R"({"functions":7})", R"({"functions":[null,[],{}]})",
          R"({"functions":[{"name":7,"methods":[1]}]})",
          R"({"functions":[{"methods":{"mapped":3,"copy":{"ready_ms":7}}}]})",
          R"({"functions":[{"template":[],"methods":{"mapped":{"ready_ms":{"p50":"6"}}}}]})"}) {
        const Json report = Json::parse(text);
        const std::string page = render_report_html(report);
        EXPECT_EQ(Json::parse(data_of(page)), report) << text;
        EXPECT_THAT(page, HasSubstr("<h1 data-function=\"\">")) << text;
    }
}

TEST(ReportHtml, BrokenUtf8IsReplaced) {
    const std::string page = render_report_html(report_named("caf\xe9"));
    EXPECT_EQ(Json::parse(data_of(page))["functions"][0]["name"], "caf\uFFFD");
    EXPECT_THAT(page, Not(HasSubstr("\xe9:")));
}

}  // namespace
}  // namespace memplate

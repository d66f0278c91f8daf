// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <filesystem>
#include <fstream>

#include "template/function.h"
#include "util/toml_reader.h"

namespace memplate {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::StartsWith;

Result<Function> parse(const std::string& text) {
    return Function::parse(text, "dir/function.toml", "/srv/dir");
}

const std::string minimal = "name = \"f\"\ncommand = [\"/bin/f\"]\nport = 8080\n";

TEST(TemplateFunction, MinimalFileTakesTheDefaults) {
    const auto function = parse(minimal);
    ASSERT_TRUE(function) << function.error().message;
    EXPECT_EQ(function->name, "f");
    EXPECT_THAT(function->command, ElementsAre("/bin/f"));
    EXPECT_EQ(function->directory, "/srv/dir");
    EXPECT_EQ(function->root, "/");
    EXPECT_THAT(function->environment, IsEmpty());
    EXPECT_EQ(function->port, 8080);
    EXPECT_EQ(function->domain, "default");
    EXPECT_EQ(function->readiness.kind, ReadinessKind::tcp);
    EXPECT_EQ(function->readiness.timeout, std::chrono::milliseconds(30000));
    EXPECT_THAT(function->warmup, IsEmpty());
    EXPECT_FALSE(function->touch);
    EXPECT_FALSE(function->limits.memory_bytes);
    EXPECT_FALSE(function->limits.cpus);
    EXPECT_EQ(function->clone_signal, "");
    EXPECT_EQ(function->text, minimal);
}

TEST(TemplateFunction, EveryKeyIsRead) {
    const auto function = parse(R"(
name = "all.keys-1"
command = ["python3", "-u", "main.py"]
directory = "code/./sub/"
root = "../image"
port = 65535
domain = "tenant-a"
gpu = true
environment = { B = "2", A = "1=x", EMPTY = "" }
[readiness]
kind = "http"
path = "/ready?full=1"
timeout_ms = 1500
[[warmup]]
method = "PUT"
path = "/write"
body = '{"a":1}'
content_type = "application/json; charset=utf-8"
repeat = 7
expect_status = 201
expect_body = "done\n"
[[warmup]]
expect_contains = "hello"
[touch]
path = "/all"
expect_body = "abc"
[limits]
memory = "256M"
cpus = 0.5
[clone]
signal = "SIGUSR2"
[[bind]]
source = "../models/"
[[bind]]
source = "/cache"
target = "/var/cache"
writable = true
)");
    ASSERT_TRUE(function) << function.error().message;
    EXPECT_EQ(function->name, "all.keys-1");
    EXPECT_THAT(function->command, ElementsAre("python3", "-u", "main.py"));
    EXPECT_EQ(function->directory, "/srv/dir/code/sub");
    EXPECT_EQ(function->root, "/srv/image");
    EXPECT_EQ(function->port, 65535);
    EXPECT_EQ(function->domain, "tenant-a");
    EXPECT_THAT(function->environment, ElementsAre("A=1=x", "B=2", "EMPTY="));
    EXPECT_EQ(function->readiness.kind, ReadinessKind::http);
    EXPECT_EQ(function->readiness.path, "/ready?full=1");
    EXPECT_EQ(function->readiness.timeout, std::chrono::milliseconds(1500));
    ASSERT_EQ(function->warmup.size(), 2U);
    const auto& put = function->warmup[0];
    EXPECT_EQ(put.request.method, "PUT");
    EXPECT_EQ(put.request.path, "/write");
    EXPECT_EQ(put.request.body, R"({"a":1})");
    EXPECT_EQ(put.request.content_type, "application/json; charset=utf-8");
    EXPECT_EQ(put.repeat, 7U);
    EXPECT_EQ(put.expect_status, 201);
    EXPECT_EQ(put.expect_body, "done\n");
    const auto& get = function->warmup[1];
    EXPECT_EQ(get.request.method, "GET");
    EXPECT_EQ(get.request.path, "/");
    EXPECT_EQ(get.repeat, 1U);
    EXPECT_EQ(get.expect_status, 200);
    EXPECT_EQ(get.expect_contains, "hello");
    ASSERT_TRUE(function->touch);
    EXPECT_EQ(function->touch->request.path, "/all");
    EXPECT_EQ(function->limits.memory_bytes, uint64_t{256} << 20);
    EXPECT_EQ(function->limits.cpus, 0.5);
    EXPECT_EQ(function->clone_signal, "SIGUSR2");
    EXPECT_TRUE(function->gpu);
    ASSERT_EQ(function->binds.size(), 2U);
    EXPECT_EQ(function->binds[0].source, "/srv/models");
    EXPECT_EQ(function->binds[0].target, "/srv/models");
    EXPECT_FALSE(function->binds[0].writable);
    EXPECT_EQ(function->binds[1].source, "/cache");
    EXPECT_EQ(function->binds[1].target, "/var/cache");
    EXPECT_TRUE(function->binds[1].writable);
}

TEST(TemplateFunction, AProgramWithoutAPortIsReadyByItsOutput) {
    const auto function = parse(
        "name = \"f\"\ncommand = [\"f\"]\n[readiness]\nkind = \"output\"\nline = \"ready\"\n");
    ASSERT_TRUE(function) << function.error().message;
    EXPECT_EQ(function->port, 0);
    EXPECT_EQ(function->readiness.kind, ReadinessKind::output);
    EXPECT_EQ(function->readiness.line, "ready");
}

TEST(TemplateFunction, AbsoluteAndIntegerForms) {
    const auto function =
        parse(minimal + "directory = \"/opt/f/\"\nroot = \"/\"\n[limits]\ncpus = 2\n");
    ASSERT_TRUE(function) << function.error().message;
    EXPECT_EQ(function->directory, "/opt/f");
    EXPECT_EQ(function->root, "/");
    EXPECT_EQ(function->limits.cpus, 2.0);
}

struct Bad {
    std::string name;
    std::string text;
    std::string message;  ///< how the error begins
};

class TemplateFunctionBad : public testing::TestWithParam<Bad> {};

TEST_P(TemplateFunctionBad, IsRefusedInOneLine) {
    const auto function = parse(GetParam().text);
    ASSERT_FALSE(function);
    EXPECT_EQ(function.error().kind, ErrorKind::usage);
    EXPECT_THAT(function.error().message, StartsWith("dir/function.toml:" + GetParam().message));
    EXPECT_EQ(function.error().message.find('\n'), std::string::npos) << function.error().message;
}

const std::string nul = "\\u0000";

INSTANTIATE_TEST_SUITE_P(
    Cases, TemplateFunctionBad,
    testing::Values(
        Bad{"Empty", "", "1: name: missing; add name ="},
        Bad{"Syntax", "name = \"f\"\ncommand = [\n=", "3: not valid TOML: "},
        Bad{"SyntaxNewline", "name = \"a\nb\"", "1: not valid TOML: "},
        Bad{"SyntaxHeader", "name = \"f\"\n[[[readiness]]\n", "2: not valid TOML: "},
        Bad{"SyntaxNonAscii", "name = \"f\"\n\u00e9 = 1\n", "2: not valid TOML: "},
        Bad{"DuplicateKey", minimal + "port = 1\n", "4: not valid TOML: "},
        Bad{"UnknownKey", minimal + "comand = 1\n",
            "4: comand: unknown key; known here: name, command, "},
        Bad{"UnknownKeyEscaped", minimal + "\"a\\nb\" = 1\n", "4: a\\nb: unknown key"},
        Bad{"UnknownTable", minimal + "[limit]\nmemory = \"1G\"\n", "4: limit: unknown key"},
        Bad{"NameType", "name = 3", "1: name: is an integer; write a string"},
        Bad{"NameSpelling", "\nname = \"A b\"", "2: name: "},
        Bad{"NameNul", "name = \"a" + nul + "\"", "1: name: contains a NUL byte"},
        Bad{"CommandMissing", "name = \"f\"", "1: command: missing; add command = ["},
        Bad{"CommandString", "name = \"f\"\ncommand = \"f\"",
            "2: command: is a string; write an array of strings"},
        Bad{"CommandEmpty", "name = \"f\"\ncommand = []", "2: command: names no program"},
        Bad{"CommandEmptyProgram", "name = \"f\"\ncommand = [\"\"]",
            "2: command: names no program"},
        Bad{"CommandElement", "name = \"f\"\ncommand = [\"f\",\n 3]",
            "3: command[1]: is an integer; write a string"},
        Bad{"CommandNul", "name = \"f\"\ncommand = [\"f" + nul + "\"]",
            "2: command[0]: contains a NUL byte"},
        Bad{"DirectoryEmpty", minimal + "directory = \"\"", "4: directory: is empty"},
        Bad{"RootType", minimal + "root = [\"/\"]", "4: root: is an array; write a string"},
        Bad{"EnvironmentType", minimal + "environment = [\"A=1\"]",
            "4: environment: is an array; write a table [environment]"},
        Bad{"EnvironmentName", minimal + "[environment]\n\"A B\" = \"1\"",
            "5: environment.A B: not a variable name"},
        Bad{"EnvironmentDigit", minimal + "[environment]\n1A = \"1\"",
            "5: environment.1A: not a variable name"},
        Bad{"EnvironmentValue", minimal + "[environment]\nA = 1",
            "5: environment.A: is an integer; write a string"},
        Bad{"PortMissing", "name = \"f\"\ncommand = [\"f\"]",
            "1: port: missing, but readiness.kind is \"tcp\""},
        Bad{"PortZero", "name = \"f\"\ncommand = [\"f\"]\nport = 0",
            "3: port: 0 is out of range; use 1 to 65535"},
        Bad{"PortHigh", "name = \"f\"\ncommand = [\"f\"]\nport = 65536",
            "3: port: 65536 is out of range"},
        Bad{"PortFloat", "name = \"f\"\ncommand = [\"f\"]\nport = 80.0",
            "3: port: is a floating-point number; write an integer"},
        Bad{"Domain", minimal + "domain = \"\"", "4: domain: "},
        Bad{"ReadinessType", minimal + "readiness = \"tcp\"",
            "4: readiness: is a string; write a table [readiness]"},
        Bad{"ReadinessKind", minimal + "[readiness]\nkind = \"udp\"",
            "5: readiness.kind: \"udp\" is not a kind of readiness; use tcp, http or output"},
        Bad{"ReadinessKindType", minimal + "[readiness]\nkind = true",
            "5: readiness.kind: is a boolean; write a string"},
        Bad{"ReadinessUnknown", minimal + "[readiness]\ntimeout = 3",
            "5: readiness.timeout: unknown key; known here: kind, path, line, timeout_ms"},
        Bad{"ReadinessPathForTcp", minimal + "[readiness]\npath = \"/\"",
            "5: readiness.path: has no meaning here"},
        Bad{"ReadinessPath", minimal + "[readiness]\nkind = \"http\"\npath = \"x\"",
            "6: readiness.path: \"x\" is not a request path"},
        Bad{"ReadinessLineForTcp", minimal + "[readiness]\nline = \"x\"",
            "5: readiness.line: has no meaning here"},
        Bad{"ReadinessLineMissing", minimal + "[readiness]\nkind = \"output\"",
            "4: readiness.line: missing"},
        Bad{"ReadinessLineEmpty", minimal + "[readiness]\nkind = \"output\"\nline = \"\"",
            "6: readiness.line: is empty or has a line break"},
        Bad{"ReadinessTimeoutZero", minimal + "[readiness]\ntimeout_ms = 0",
            "5: readiness.timeout_ms: 0 is out of range; use 1 to 3600000"},
        Bad{"ReadinessTimeoutDate", minimal + "[readiness]\ntimeout_ms = 2026-01-01",
            "5: readiness.timeout_ms: is a date or time; write an integer"},
        Bad{"WarmupTable", minimal + "[warmup]\npath = \"/\"",
            "4: warmup: is a table; write blocks that begin with [[warmup]]"},
        Bad{"WarmupNumbers", minimal + "warmup = [1]", "4: warmup[0]: is an integer; write blocks"},
        Bad{"WarmupMethod", minimal + "[[warmup]]\nmethod = \"get\"",
            "5: warmup[0].method: \"get\" is not supported; use GET, POST, PUT, PATCH, DELETE"},
        Bad{"WarmupSecond", minimal + "[[warmup]]\n[[warmup]]\npath = \"/a b\"",
            "6: warmup[1].path: \"/a b\" is not a request path"},
        Bad{"WarmupPathInjection", minimal + "[[warmup]]\npath = \"/\\r\\nX: y\"",
            "5: warmup[0].path: \"/\\x0d\\nX: y\" is not a request path"},
        Bad{"WarmupPathNonAscii", minimal + "[[warmup]]\npath = \"/\u00e9\"",
            "5: warmup[0].path: \"/\\xc3\\xa9\" is not a request path"},
        Bad{"WarmupContentTypeAlone", minimal + "[[warmup]]\ncontent_type = \"text/plain\"",
            "5: warmup[0].content_type: has no meaning without a body"},
        Bad{"WarmupContentType", minimal + "[[warmup]]\nbody = \"x\"\ncontent_type = \"a\\r\\nb\"",
            "6: warmup[0].content_type: is not a media type"},
        Bad{"WarmupRepeat", minimal + "[[warmup]]\nrepeat = 0",
            "5: warmup[0].repeat: 0 is out of range; use 1 to 1000000"},
        Bad{"GpuNumber", minimal + "gpu = 1", "4: gpu: is an integer; write true or false"},
        Bad{"BindWithoutSource", minimal + "[[bind]]\ntarget = \"/x\"",
            "4: bind[0].source: missing"},
        Bad{"BindTarget", minimal + "[[bind]]\nsource = \"/x\"\ntarget = \"y\"",
            "6: bind[0].target: \"y\" is not an absolute path below the root"},
        Bad{"WarmupStatus", minimal + "[[warmup]]\nexpect_status = 600",
            "5: warmup[0].expect_status: 600 is out of range; use 100 to 599"},
        Bad{"WarmupNothingExpected", minimal + "[[warmup]]\nexpect_body = \"\"",
            "5: warmup[0].expect_body: is empty and would check nothing"},
        Bad{"WarmupWithoutPort",
            "name = \"f\"\ncommand = [\"f\"]\n[readiness]\nkind = \"output\"\nline = \"x\"\n"
            "[[warmup]]\npath = \"/\"\n",
            "6: warmup: needs a port"},
        Bad{"TouchArray", minimal + "[[touch]]\npath = \"/\"",
            "4: touch: is an array of tables; write a table [touch]"},
        Bad{"TouchUnknown", minimal + "[touch]\nurl = \"/\"", "5: touch.url: unknown key"},
        Bad{"LimitsMemoryInteger", minimal + "[limits]\nmemory = 1048576",
            "5: limits.memory: is an integer; write a string"},
        Bad{"LimitsMemory", minimal + "[limits]\nmemory = \"1Q\"", "5: limits.memory: "},
        Bad{"LimitsMemorySmall", minimal + "[limits]\nmemory = \"1023K\"",
            "5: limits.memory: is out of range; use 1M or more"},
        Bad{"LimitsCpusZero", minimal + "[limits]\ncpus = 0",
            "5: limits.cpus: 0 is out of range; use 0.01 to 1024"},
        Bad{"LimitsCpusNan", minimal + "[limits]\ncpus = nan",
            "5: limits.cpus: nan is out of range"},
        Bad{"LimitsCpusType", minimal + "[limits]\ncpus = \"2\"",
            "5: limits.cpus: is a string; write a number"},
        Bad{"CloneUnknown", minimal + "[clone]\nSignal = \"SIGUSR2\"",
            "5: clone.Signal: unknown key"},
        Bad{"CloneSignalKill", minimal + "[clone]\nsignal = \"SIGKILL\"",
            "5: clone.signal: \"SIGKILL\" is not a signal that a process can catch"},
        Bad{"CloneSignalEmpty", minimal + "[clone]\nsignal = \"\"",
            "5: clone.signal: \"\" is not a signal"}),
    [](const auto& info) { return info.param.name; });

TEST(TemplateFunction, LargeTextIsRefused) {
    const auto function = parse(std::string((size_t{1} << 20) + 1, '#'));
    ASSERT_FALSE(function);
    EXPECT_THAT(function.error().message, HasSubstr("larger than"));
}

TEST(TemplateFunction, DeepNestingIsAnError) {
    for (const std::string open : {"[", "{a="}) {
        std::string text = "name = ";
        for (int depth = 0; depth < 100000; ++depth) text += open;
        const auto function = parse(text);
        ASSERT_FALSE(function);
        EXPECT_EQ(function.error().kind, ErrorKind::usage);
    }
}

TEST(TemplateFunction, InvalidUtf8IsAnErrorInPrintableText) {
    const auto function = parse("name = \"\xff\xfe\"");
    ASSERT_FALSE(function);
    for (const char character : function.error().message)
        EXPECT_TRUE(character >= 0x20 && character < 0x7f);
}

TEST(TemplateFunction, LoadTakesTheDirectoryOfTheFile) {
    const auto directory = std::filesystem::path(testing::TempDir()) / "memplate_function_test";
    std::filesystem::create_directories(directory);
    const auto file = directory / "function.toml";
    std::ofstream(file) << minimal;
    const auto function = Function::load(file.string());
    ASSERT_TRUE(function) << function.error().message;
    EXPECT_EQ(function->directory, directory.string());
    std::filesystem::remove_all(directory);

    const auto missing = Function::load(file.string());
    ASSERT_FALSE(missing);
    EXPECT_EQ(missing.error().kind, ErrorKind::usage);
    EXPECT_THAT(missing.error().message, HasSubstr(file.string()));
}

TEST(TemplateFunction, SignalNumbers) {
    EXPECT_EQ(signal_number("SIGUSR2").value(), SIGUSR2);
    EXPECT_EQ(signal_number("SIGHUP").value(), SIGHUP);
    for (const auto* name : {"USR2", "SIG", "sigusr2", "SIGSTOP", "SIGKILL", "12", "SIGUSR2 "})
        EXPECT_FALSE(signal_number(name)) << name;
}

TEST(TemplateFunction, AnswersAreCompared) {
    WarmupRequest expected;
    expected.request.path = "/x";
    const auto message = [&](long status, const std::string& body) {
        const auto result = check_answer(expected, {.status = status, .body = body});
        return result ? std::string() : result.error().message;
    };
    EXPECT_EQ(message(200, "anything"), "");
    EXPECT_EQ(message(500, "a\nb"), "GET /x: status 500, expected 200; body \"a\\nb\"");
    expected.expect_contains = "good";
    EXPECT_EQ(message(200, "all good"), "");
    EXPECT_EQ(message(200, "bad"), "GET /x: body \"bad\" (3 bytes) does not contain \"good\"");
    expected.expect_body = "good\n";
    EXPECT_EQ(message(200, "good\n"), "");
    EXPECT_EQ(message(200, "good"),
              "GET /x: body \"good\" (4 bytes), expected \"good\\n\" (5 bytes)");
    expected.expect_status = 404;
    EXPECT_EQ(message(404, "good\n"), "");
    EXPECT_THAT(message(200, "good\n"), StartsWith("GET /x: status 200, expected 404"));
}

TEST(TemplateFunction, PrintableEscapesAndCuts) {
    EXPECT_EQ(printable("a\tb\n\x7f\xc3"), "a\\x09b\\n\\x7f\\xc3");
    EXPECT_EQ(printable("abcdef", 3), "abc...");
}

}  // namespace
}  // namespace memplate

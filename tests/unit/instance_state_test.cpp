// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "image_fixture.h"
#include "instance/run.h"
#include "instance/state.h"

namespace memplate::instance {
namespace {

using namespace test;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::MatchesRegex;

Record example() {
    return {"hello-0a1b2c", "hello", "/pools/main.pool", "mapped", "10.77.0.5", 8080, 4711,
            4700,           12.5,    1700000000};
}

TEST(InstanceRecord, RoundTripsThroughText) {
    const auto again = must(Record::from_json(Json::parse(example().to_json().dump(2))));
    EXPECT_EQ(again.id, "hello-0a1b2c");
    EXPECT_EQ(again.template_name, "hello");
    EXPECT_EQ(again.pool, "/pools/main.pool");
    EXPECT_EQ(again.engine, "mapped");
    EXPECT_EQ(again.address, "10.77.0.5");
    EXPECT_EQ(again.port, 8080);
    EXPECT_EQ(again.pid, 4711);
    EXPECT_EQ(again.keeper, 4700);
    EXPECT_EQ(again.ready_ms, 12.5);
    EXPECT_EQ(again.created, 1700000000);
    EXPECT_EQ(again.to_json(), example().to_json());
}

TEST(InstanceRecord, EveryKeyIsNeededAndTyped) {
    const Json complete = example().to_json();
    for (const auto& [key, value] : complete.items()) {
        Json missing = complete;
        missing.erase(key);
        EXPECT_THAT(error_of(Record::from_json(missing)), HasSubstr("state.json: ")) << key;
        Json wrong = complete;
        wrong[key] = Json::array();
        EXPECT_THAT(error_of(Record::from_json(wrong)), HasSubstr("state.json: ")) << key;
    }
}

TEST(InstanceRecord, WhatIsNoObjectIsRefused) {
    for (const char* text : {"", "{", "[]", "null", "17", "\"x\"", "{\"id\":"})
        EXPECT_EQ(error_of(Record::from_json(Json::parse(text, nullptr, false))),
                  "state.json: not a JSON object")
            << text;
}

class InstanceState : public ::testing::Test {
  protected:
    InstanceState() {
        context_.settings.state_dir = directory_.path() + "/state";
        context_.settings.cache_dir = directory_.path() + "/cache";
    }

    void put_record(const std::string& id, int64_t created) const {
        Record record = example();
        record.id = id;
        record.created = created;
        put(id, record.to_json().dump());
    }
    void put(const std::string& id, std::string_view state) const {
        const std::string path = context_.settings.state_dir + "/instances/" + id;
        must(make_directories(path));
        must(write_file_atomic(AT_FDCWD, path + "/state.json", state));
    }

    TemporaryDirectory directory_ = must(TemporaryDirectory::create(::testing::TempDir(), "state"));
    Context context_;
};

TEST_F(InstanceState, ListsOldestFirstWithoutTheUnfinished) {
    EXPECT_THAT(must(list(context_)), IsEmpty());
    put_record("a-1", 300);
    put_record("b-2", 100);
    put_record("c-3", 200);
    put("d-4", "{\"id\": \"d-4\"}");
    put("e-5", "");
    must(make_directories(context_.settings.state_dir + "/instances/f-6"));
    std::vector<std::string> ids;
    for (const auto& record : must(list(context_))) ids.push_back(record.id);
    EXPECT_THAT(ids, ElementsAre("b-2", "c-3", "a-1"));
}

TEST_F(InstanceState, IdsAreHostNamesAndGenerationsDiffer) {
    std::set<uint64_t> generations;
    std::set<std::string> ids;
    for (int i = 0; i < 3; ++i) {
        auto directory = must(Directory::create(context_, "my_function.v2"));
        directory.keep();
        EXPECT_THAT(directory.id(), MatchesRegex("my-function-v2-[0-9a-f]{6}"));
        EXPECT_TRUE(directory.path().ends_with("/instances/" + directory.id()));
        EXPECT_TRUE(directory.lock());
        generations.insert(directory.generation());
        ids.insert(directory.id());
    }
    EXPECT_THAT(generations, ElementsAre(1, 2, 3));
    EXPECT_EQ(ids.size(), 3U);
    auto directory = must(Directory::create(context_, std::string(200, 'x')));
    directory.keep();
    EXPECT_LE(directory.id().size(), 63U);
}

TEST_F(InstanceState, SavedRecordsAreListed) {
    auto directory = must(Directory::create(context_, "hello"));
    directory.keep();
    must(save(directory, example()));
    const auto records = must(list(context_));
    ASSERT_EQ(records.size(), 1U);
    EXPECT_EQ(records[0].to_json(), example().to_json());
}

TEST_F(InstanceState, KeepsTheNewestLogs) {
    const std::string source = directory_.path() + "/restore.log";
    must(write_file_atomic(AT_FDCWD, source, "it failed"));
    const std::string kept = keep_log(context_, source, "hello.log");
    EXPECT_EQ(kept, context_.settings.state_dir + "/log/hello.log");
    EXPECT_EQ(must(read_file(kept)), "it failed");
    for (int i = 0; i < 80; ++i) (void)keep_log(context_, source, fmt::format("{:03}.log", i));
    const auto names = must(list_directory(AT_FDCWD, context_.settings.state_dir + "/log"));
    EXPECT_EQ(names.size(), 64U);
    // What cannot be copied is named where it is.
    EXPECT_EQ(keep_log(context_, "/nowhere/x.log", "y.log"), "/nowhere/x.log");
}

TEST_F(InstanceState, StoppingWhatIsNotThereSaysSo) {
    EXPECT_THAT(error_of(stop(context_, "hello-123456", 0)), HasSubstr("no instance hello-123456"));
    EXPECT_FALSE(stop(context_, "../../etc", 0));
    EXPECT_FALSE(stop(context_, "", 0));
}

TEST(ForEachParallel, CallsEveryTaskOnce) {
    for (const unsigned threads : {0U, 1U, 3U, 100U}) {
        std::mutex mutex;
        std::multiset<unsigned> called;
        EXPECT_TRUE(for_each_parallel(20, threads, [&](unsigned i) -> Result<> {
            const std::lock_guard lock(mutex);
            called.insert(i);
            return {};
        }));
        EXPECT_EQ(called.size(), 20U) << threads;
        for (unsigned i = 0; i < 20; ++i) EXPECT_EQ(called.count(i), 1U) << i;
    }
    EXPECT_TRUE(for_each_parallel(0, 4, [](unsigned) -> Result<> { return fail("called"); }));
}

TEST(ForEachParallel, TasksRunAtTheSameTime) {
    std::atomic<unsigned> arrived = 0;
    EXPECT_TRUE(for_each_parallel(3, 3, [&](unsigned) -> Result<> {
        ++arrived;
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (arrived < 3) {
            if (std::chrono::steady_clock::now() > deadline) return fail("alone");
            std::this_thread::yield();
        }
        return {};
    }));
}

TEST(ForEachParallel, AfterAnErrorTheRestIsNotBegun) {
    std::vector<unsigned> called;
    const auto result = for_each_parallel(10, 1, [&](unsigned i) -> Result<> {
        called.push_back(i);
        if (i >= 3) return fail(fmt::format("task {}", i));
        return {};
    });
    EXPECT_EQ(error_of(result), "task 3");
    EXPECT_THAT(called, ElementsAre(0, 1, 2, 3));
}

TEST(ForEachParallel, FirstErrorWins) {
    std::atomic<bool> failed = false;
    std::atomic<unsigned> begun = 0;
    const auto result = for_each_parallel(1000, 2, [&](unsigned i) -> Result<> {
        ++begun;
        if (i == 1) {
            failed = true;
            return fail("first");
        }
        while (!failed) std::this_thread::yield();
        std::this_thread::sleep_for(std::chrono::milliseconds(50));
        return fail("later");
    });
    EXPECT_EQ(error_of(result), "first");
    EXPECT_EQ(begun, 2U);
}

}  // namespace
}  // namespace memplate::instance

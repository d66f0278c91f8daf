// SPDX-License-Identifier: Apache-2.0
//
// Readers beside a writer, and writers that are killed.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <random>
#include <thread>

#include "pool_fixture.h"

namespace memplate::pool {
namespace {

using namespace test;

using PoolConcurrency = PoolTest;

constexpr int commits = 200;

/// Replaces the template "t" `commits` times and reclaims now and then.
void replace_often(Pool& pool) {
    Writer writer = must(Writer::acquire(pool, "test"));
    for (int i = 0; i < commits; ++i) {
        add_template(writer, "t", 1 + static_cast<uint64_t>(i % 5), static_cast<uint32_t>(i), true);
        if (i % 3 == 0) must(writer.store_profile("t", fmt::format("profile {}", i)));
        if (i % 10 == 9) must(writer.gc());
    }
}

/// A thread whose exceptions are failures of the test.
template <class F, class... Args>
std::thread start(F work, Args... args) {
    return std::thread([=] {
        try {
            work(args...);
        } catch (const std::exception& error) {
            ADD_FAILURE() << error.what();
        }
    });
}

TEST_F(PoolConcurrency, AReaderSeesWholeTemplatesDuringCommits) {
    Pool pool = create(uint64_t{8} << 20);
    {
        Writer writer = must(Writer::acquire(pool, "test"));
        add_template(writer, "t", 1, 0);
    }
    std::atomic<bool> done = false;
    std::atomic<int> checked = 0;
    std::atomic<int> gone = 0;
    const auto read = [&] {
        Pool reader = must(Pool::open(path_));
        uint64_t generation = 0;
        while (!done) {
            must(reader.refresh());
            const PoolInfo info = must(reader.info());
            ASSERT_GE(info.generation, generation);
            generation = info.generation;
            for (const std::string& warning : info.warnings) ADD_FAILURE() << warning;
            const TemplateRecord record = must(reader.find("t"));
            const auto pin = reader.pin(record);
            if (!pin) {  // replaced and reclaimed since
                ASSERT_EQ(pin.error().code, ENOENT) << pin.error().message;
                ++gone;
                continue;
            }
            ASSERT_TRUE(must(reader.read_manifest(record)).starts_with("manifest of t with seed"));
            const VerifyReport report = must(reader.verify_template(record));
            ASSERT_EQ(report.templates, 1U);
            ASSERT_TRUE(report.damages.empty()) << report.damages[0].what;
            ++checked;
        }
    };
    std::thread first = start(read);
    std::thread second = start([&] {
        while (!done) {
            const auto opened = Pool::open(path_);
            ASSERT_TRUE(opened.has_value()) << opened.error().message;
            const VerifyReport report = must(opened->verify());
            for (const Damage& damage : report.damages) ADD_FAILURE() << damage.what;
        }
    });
    // However the scheduler deals with the threads: until enough was read beside the writer.
    do replace_often(pool);
    while (checked <= 10 && !HasFailure());
    done = true;
    first.join();
    second.join();
    Pool last = must(Pool::open(path_));
    EXPECT_TRUE(must(last.verify()).damages.empty());
    EXPECT_GE(must(last.info()).generation, static_cast<uint64_t>(commits));
}

TEST_F(PoolConcurrency, PagesStayWhileTheyArePinnedWhateverTheWriterDoes) {
    Pool pool = create(uint64_t{8} << 20);
    {
        Writer writer = must(Writer::acquire(pool, "test"));
        add_template(writer, "t", 4, 12345);
    }
    const Pool reader = must(Pool::open(path_));
    const TemplateRecord record = must(reader.find("t"));
    const PageExtent extent = pieces_of(path_, "t").front().extent;
    const TemplatePin pin = must(reader.pin(record));
    replace_often(pool);
    std::vector<std::byte> data(extent.count * page_size);
    must(reader.read_pages(extent, data));
    EXPECT_EQ(data, pattern(4, 12345));
    EXPECT_EQ(must(reader.read_manifest(record)), "manifest of t with seed 12345");
}

TEST_F(PoolConcurrency, AKilledWriterLeavesAWholePoolAndNoLease) {
    (void)create(uint64_t{8} << 20);
    std::mt19937 random(3);
    uint64_t generation = 0;
    // Until the children got somewhere, however slow they are.
    for (unsigned round = 0; round < 30 || generation <= 30; ++round) {
        const pid_t child = ::fork();
        ASSERT_GE(child, 0);
        if (child == 0) {
            // Not a test any more: it must end by the signal, or by running out of work.
            auto pool = Pool::open(path_, OpenMode::read_write);
            if (pool) replace_often(*pool);
            ::_exit(0);
        }
        ::usleep(static_cast<useconds_t>(random() % (8000 + 500 * round)));
        ASSERT_EQ(::kill(child, SIGKILL), 0);
        int status = 0;
        ASSERT_EQ(::waitpid(child, &status, 0), child);
        Pool pool = must(Pool::open(path_, OpenMode::read_write));
        const PoolInfo info = must(pool.info());
        EXPECT_EQ(info.lease_holder, "");
        EXPECT_GE(info.generation, generation);
        generation = info.generation;
        for (const Damage& damage : must(pool.verify()).damages)
            ADD_FAILURE() << "round " << round << ": " << damage.what;
        const Writer writer = must(Writer::acquire(pool, "test"));
    }
}

TEST_F(PoolConcurrency, WritersTakeTurns) {
    (void)create(uint64_t{8} << 20);
    std::atomic<int> refused = 0;
    const auto write = [&](const std::string& name) {
        Pool pool = must(Pool::open(path_, OpenMode::read_write));
        for (int done = 0; done < 20;) {
            auto writer = Writer::acquire(pool, "test");
            if (!writer) {
                ASSERT_EQ(writer.error().code, EBUSY) << writer.error().message;
                ++refused;
                std::this_thread::yield();
                continue;
            }
            add_template(*writer, fmt::format("{}-{}", name, done++), 2, 1);
        }
    };
    std::thread first = start(write, "a");
    std::thread second = start(write, "b");
    first.join();
    second.join();
    const Pool pool = must(Pool::open(path_));
    EXPECT_EQ(pool.templates().size(), 40U);
    EXPECT_TRUE(must(pool.verify()).damages.empty());
}

}  // namespace
}  // namespace memplate::pool

// SPDX-License-Identifier: Apache-2.0
//
// For the tests of power loss: the writes of an operation are recorded, and the pool is rebuilt as
// a crash could have left it: cut after any write, with any of the writes since the last sync
// missing, or only some of their sectors on the medium. Every such pool must open, hold the old or
// the new contents, verify clean, and take further writes.
#pragma once

#include <sys/mman.h>

#include <functional>
#include <numeric>
#include <random>
#include <set>

#include "pool_fixture.h"

namespace memplate::pool::test {

struct Operation {
    enum class Kind { write, punch, resize, sync } kind;
    uint64_t offset = 0;  ///< of a resize: the new size
    std::vector<std::byte> data;
    uint64_t length = 0;
};

template <class Base>
class RecordingMedium : public Base {
  public:
    using Base::Base;
    Result<> write(std::span<const std::byte> data, uint64_t offset) override {
        operations.push_back(
            {Operation::Kind::write, offset, {data.begin(), data.end()}, data.size()});
        return Base::write(data, offset);
    }
    Result<bool> punch(uint64_t offset, uint64_t length) override {
        TRY_ASSIGN(const bool done, Base::punch(offset, length));
        if (done) operations.push_back({Operation::Kind::punch, offset, {}, length});
        return done;
    }
    Result<> resize(uint64_t size) override {
        operations.push_back({Operation::Kind::resize, size, {}, 0});
        return Base::resize(size);
    }
    Result<> sync() override {
        operations.push_back({Operation::Kind::sync, 0, {}, 0});
        return {};
    }
    std::vector<Operation> operations;
};

using Image = std::vector<std::byte>;

/// Applies an operation, or only those of its sectors that `keep` says.
inline void apply(
    Image& image, const Operation& operation, size_t sector,
    const std::function<bool()>& keep = [] { return true; }) {
    if (operation.kind == Operation::Kind::resize) {
        if (keep()) image.resize(operation.offset);
        return;
    }
    for (uint64_t done = 0; done < operation.length; done += sector) {
        const uint64_t n = std::min<uint64_t>(sector, operation.length - done);
        const uint64_t at = operation.offset + done;
        if (!keep() || at + n > image.size()) continue;
        if (operation.kind == Operation::Kind::write) {
            std::copy_n(operation.data.begin() + static_cast<ptrdiff_t>(done), n,
                        image.begin() + static_cast<ptrdiff_t>(at));
        } else {
            std::fill_n(image.begin() + static_cast<ptrdiff_t>(at), n, std::byte{0});
        }
    }
}

/// Names, blobs and content hashes; the hashes are checked against the contents by verify.
inline std::string describe(const Pool& pool) {
    std::string text;
    for (const TemplateRecord& record : pool.templates())
        text += fmt::format("{} {} {} [{}] [{}]\n", record.name, record.id, record.hash,
                            must(pool.read_manifest(record)), must(pool.read_profile(record)));
    return text + std::to_string(must(pool.info()).size_bytes);
}

/// Holds the pool file that a subclass has made, and knows how to open images of it.
class PoolCrashTest : public PoolTest {
  protected:
    /// `sector`: what reaches the medium whole or not at all.
    PoolCrashTest(size_t sector, uint64_t writers_every)
        : sector_(sector), writers_every_(writers_every) {}

    /// Templates for the operations below to work on.
    static void fill(Pool& pool) {
        Writer writer = must(Writer::acquire(pool, "test"));
        add_template(writer, "base", 3, 1);
        add_template(writer, "other", 2, 2);
        add_template(writer, "removed", 2, 3);
        must(writer.remove("removed"));
        // The generation before the last refers to a page that the last does not.
        must(writer.store_profile("base", "an earlier profile"));
        must(writer.store_profile("base", "first profile"));
    }

    [[nodiscard]] Image image() const {
        const std::string text = must(read_file(path_));
        return {bytes_of(text).begin(), bytes_of(text).end()};
    }

    /// The pool as a crash left it.
    [[nodiscard]] virtual std::shared_ptr<Medium> medium_of(const Image& contents) const = 0;
    /// The pool at path_; what is done to it goes to `operations`.
    [[nodiscard]] virtual std::shared_ptr<Medium> recording_medium() = 0;

    void check(const Image& contents, const std::set<std::string>& allowed,
               const std::string& where) {
        ++states_;
        auto opened = Pool::open(medium_of(contents));
        ASSERT_TRUE(opened.has_value()) << where << ": " << opened.error().message;
        Pool pool = std::move(*opened);
        const std::string found = describe(pool);
        ASSERT_TRUE(allowed.contains(found)) << where << ": neither old nor new:\n" << found;
        seen_.insert(found);
        expect_whole(pool, where);
        expect_fallback(contents, where);
        if (states_ % writers_every_ != 0) return;
        // Life goes on, and nothing of what was there suffers.
        {
            auto writer = Writer::acquire(pool, "after the crash");
            ASSERT_TRUE(writer.has_value()) << where << ": " << writer.error().message;
            ASSERT_EQ(describe(pool), found) << where;
            expect_whole(pool, where + ", repaired");
            add_template(*writer, "zz-later", 5, 9);
            must(writer->gc(for_sure));
        }
        must(pool.refresh());
        ASSERT_EQ(must(pool.info()).warnings.size(), 0U) << where;
        must(pool.find("zz-later"));
        expect_whole(pool, where + ", written again");
    }

    /// If the generation before is there, its templates are, too.
    void expect_fallback(Image contents, const std::string& where) const {
        const Snapshot snapshot = must(load_snapshot(*medium_of(contents)));
        if (!snapshot.previous) return;
        const Superblock& newest = snapshot.superblock;
        contents[newest.slot_offset[newest.slot]] ^= std::byte{1};
        const Pool pool = must(Pool::open(medium_of(contents)));
        ASSERT_EQ(must(pool.info()).generation, snapshot.previous->generation) << where;
        for (const Damage& damage : must(pool.verify()).damages)
            EXPECT_EQ(damage.template_name, "") << where << ": the fallback's " << damage.what;
    }

    static void expect_whole(const Pool& pool, const std::string& where) {
        for (const Damage& damage : must(pool.verify()).damages)
            ADD_FAILURE() << where << ": " << damage.template_name << " " << damage.what << " at "
                          << damage.offset;
    }

    /// Runs `change` under a recording writer and tries all crashes.
    void crash_anywhere_in(const std::function<void(Writer&)>& change) {
        const Image before = image();
        const auto medium = recording_medium();
        std::set<std::string> allowed;
        {
            Pool pool = must(Pool::open(medium));
            allowed.insert(describe(pool));
            {
                Writer writer = must(Writer::acquire(pool, "test"));
                change(writer);
            }
            must(pool.refresh());
            allowed.insert(describe(pool));
        }
        const auto& operations = *operations_;
        std::mt19937 random(7);
        Image durable = before;  // what the last sync guarantees
        size_t window = 0;       // first operation after it
        for (size_t i = 0; i <= operations.size() && !HasFatalFailure(); ++i) {
            if (i < operations.size() && operations[i].kind != Operation::Kind::sync) continue;
            crash_in_window(durable, operations, window, i, allowed, random);
            for (; window < i; ++window) apply(durable, operations[window], sector_);
            window = i + 1;
        }
        EXPECT_EQ(seen_, allowed) << "both sides of the change were met";
    }

    void crash_in_window(const Image& durable, const std::vector<Operation>& operations,
                         size_t first, size_t end, const std::set<std::string>& allowed,
                         std::mt19937& random) {
        // In order, cut after each.
        Image state = durable;
        check(state, allowed, fmt::format("before operation {}", first));
        for (size_t i = first; i < end; ++i) {
            apply(state, operations[i], sector_);
            check(state, allowed, fmt::format("after operation {}", i));
        }
        // Some missing, some only in part, in any order.
        for (int round = 0; round < 40 && end > first && !HasFatalFailure(); ++round) {
            std::vector<size_t> order(end - first);
            std::iota(order.begin(), order.end(), first);
            std::ranges::shuffle(order, random);
            state = durable;
            for (const size_t i : order) {
                const auto fate = random() % 3;
                if (fate == 0) continue;
                const bool torn = fate == 1;
                apply(state, operations[i], sector_, [&] { return !torn || random() % 2 == 0; });
            }
            check(state, allowed,
                  fmt::format("round {} of operations {} to {}", round, first, end));
        }
    }

    /// No instance and no other host uses removed templates.
    inline static const GcOptions for_sure{{}, true};

    size_t sector_;
    uint64_t writers_every_;
    const std::vector<Operation>* operations_ = nullptr;
    uint64_t states_ = 0;
    std::set<std::string> seen_;
};

}  // namespace memplate::pool::test

// SPDX-License-Identifier: Apache-2.0
//
// From an image directory through a page store to the images of an engine.
#pragma once

#include "engine/image_writer.h"
#include "image_fixture.h"
#include "template/store.h"

namespace memplate::test {

using engine::Kind;
using engine::WriteOptions;

inline constexpr uint32_t stack_area = status::regular | status::anon_private | status::stack;

/// Some of everything.
inline TestProcess example(uint32_t pid = 100, uint32_t pages_id = 1) {
    TestProcess process;
    process.pid = pid;
    process.parent = pid == 100 ? 0 : 100;
    process.pages_id = pages_id;
    process.areas = {area(0, 64), file_area(100, 32, 7, 3),
                     area(200, 16, stack_area, MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN)};
    process.fill(10, 10, 'a');
    process.fill(13, 1, 0);
    process.fill(40, 1, 'b');
    process.fill(108, 4, 'c');
    process.fill(110, 1, 0);
    process.fill(210, 6, 'd');
    return process;
}

class EngineFixture : public ::testing::Test {
  protected:
    void store(const std::vector<TestProcess>& processes) {
        fill(processes);
        store_filled();
    }
    void fill(const std::vector<TestProcess>& processes) {
        source_.fill(processes,
                     {regular_file(1, "/bin/function", 4711), regular_file(7, "/lib/x.so", 815)});
    }
    void store_filled(const LayoutOptions& layout = {}) {
        must(store_images(source_.fd(), must(source_.load()), layout, store_, tmpl_.manifest));
        tmpl_.manifest.set_version(manifest_version);
        tmpl_.pages = store_.source();
        must(validate(tmpl_.manifest, tmpl_.pages));
    }

    void learn_written(uint32_t pid, uint64_t first, uint64_t pages) {
        add_stretch(*learnt(pid).mutable_written(), first, pages);
    }
    void learn_read(uint32_t pid, uint64_t first, uint64_t pages) {
        add_stretch(*learnt(pid).mutable_read(), first, pages);
    }

    void write(Kind kind, const WriteOptions& options = {}) {
        must(engine::write_images(kind, tmpl_, out_.fd(), options));
    }

    std::vector<uint64_t> copied(uint32_t pid) {
        std::vector<uint64_t> result;
        for (const auto& [vaddr, bytes] : out_.memory(pid))
            result.push_back((vaddr - at(0)) / page_size);
        return result;
    }

    /// Without what anonymous memory holds anyway.
    static Memory without_zeros(Memory memory) {
        std::erase_if(memory, [](const auto& entry) {
            const bool in_file_area = entry.first >= at(100) && entry.first < at(132);
            return !in_file_area && entry.second == std::string(page_size, '\0');
        });
        return memory;
    }

    proto::ProcessProfile& learnt(uint32_t pid) {
        if (!tmpl_.profile) tmpl_.profile.emplace();
        for (auto& process : *tmpl_.profile->mutable_processes())
            if (process.pid() == pid) return process;
        auto* process = tmpl_.profile->add_processes();
        process->set_pid(pid);
        return *process;
    }

    static void add_stretch(google::protobuf::RepeatedPtrField<proto::Stretch>& stretches,
                            uint64_t first, uint64_t pages) {
        auto* stretch = stretches.Add();
        stretch->set_vaddr(at(first));
        stretch->set_pages(pages);
    }

    ImageDirectory source_;
    MemfdPageStore store_ = must(MemfdPageStore::create());
    Template tmpl_;
    ImageDirectory out_;
};

}  // namespace memplate::test

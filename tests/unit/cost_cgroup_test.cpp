// SPDX-License-Identifier: Apache-2.0
//
// Cgroup files of both hierarchies and containers of all engines, in fake trees; the real thing is
// tests/e2e/test_cost.py.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "cost/memory_source.h"
#include "util/container.h"
#include "util/fs.h"

namespace memplate::cost {
namespace {

using testing::HasSubstr;

class CostCgroup : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-cost");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
    }
    void write(const std::string& path, const std::string& text) const {
        const std::filesystem::path full = directory_.path() + "/" + path;
        std::filesystem::create_directories(full.parent_path());
        std::ofstream(full) << text;
    }
    void unified_group(const std::string& group) const {
        write("cg/cgroup.controllers", "cpu memory\n");
        write("cg/" + group + "/memory.current", "1048576\n");
        write("cg/" + group + "/memory.max", "max\n");
        write("cg/" + group + "/memory.stat", "anon 5\ninactive_file 4096\n");
        write("cg/" + group + "/cgroup.events", "populated 1\nfrozen 0\n");
    }
    void legacy_group(const std::string& group) const {
        write("cg/memory/cgroup.procs", "");
        write("cg/memory/" + group + "/cgroup.procs", "");
        write("cg/memory/" + group + "/memory.usage_in_bytes", "2097152\n");
        write("cg/memory/" + group + "/memory.max_usage_in_bytes", "3145728\n");
        write("cg/memory/" + group + "/memory.limit_in_bytes", "9223372036854771712\n");
        write("cg/memory/" + group + "/memory.stat", "inactive_file 1\ntotal_inactive_file 8192\n");
    }
    [[nodiscard]] std::string root() const { return directory_.path() + "/cg"; }
    [[nodiscard]] CgroupHierarchy hierarchy() const { return *CgroupHierarchy::find(root()); }
    void container(const std::string& path) const {
        write("cg/cgroup.controllers", "memory\n");
        write("cg/" + path + "/memory.current", "1\n");
    }

  private:
    TemporaryDirectory directory_;
};

const std::string id_a = std::string(60, 'a') + "0001";
const std::string id_b = std::string(60, 'a') + "0002";
const std::string id_c = std::string(60, 'c') + "0003";

TEST_F(CostCgroup, ReadsTheUnifiedHierarchy) {
    unified_group("user/one");
    const auto group = MemoryCgroup::open(hierarchy(), "/user/one");
    ASSERT_TRUE(group) << group.error().message;
    EXPECT_EQ(*group->current(), 1u << 20);
    EXPECT_EQ(*group->peak(), std::nullopt);  // an old kernel: no memory.peak
    EXPECT_EQ(*group->limit(), std::nullopt);
    EXPECT_EQ(*group->inactive_file(), 4096u);
    EXPECT_TRUE(*group->populated());
    const Method method = poll_source(*group, std::chrono::milliseconds(1))->method();
    EXPECT_EQ(method.peak, "the largest reading");
    EXPECT_THAT(method.accuracy, HasSubstr("32 %"));
    write("cg/user/one/memory.max", "4096\n");
    EXPECT_EQ(*group->limit(), 4096u);
    write("cg/user/one/memory.peak", "5\n");
    EXPECT_EQ(
        poll_source(*MemoryCgroup::open(hierarchy(), "user/one/"), std::chrono::milliseconds(1))
            ->method()
            .peak,
        "memory.peak");
}

TEST_F(CostCgroup, ReadsTheMemoryControllerOfV1) {
    legacy_group("docker/x");
    const auto group = MemoryCgroup::open(hierarchy(), root() + "/memory/docker/x");
    ASSERT_TRUE(group) << group.error().message;
    EXPECT_EQ(*group->current(), 2u << 20);
    EXPECT_EQ(*group->peak(), 3u << 20);
    EXPECT_EQ(*group->limit(), std::nullopt);
    EXPECT_EQ(*group->inactive_file(), 8192u);
    EXPECT_FALSE(*group->populated());
    write("cg/memory/docker/x/inner/cgroup.procs", "17\n");
    EXPECT_TRUE(*group->populated());
}

TEST_F(CostCgroup, WrongPathsAreOneClearLine) {
    unified_group("one");
    const auto missing = MemoryCgroup::open(hierarchy(), "/nosuch");
    ASSERT_FALSE(missing);
    EXPECT_THAT(missing.error().message, HasSubstr("/nosuch"));
    EXPECT_THAT(missing.error().message, HasSubstr("no memory cgroup of that path"));
    EXPECT_FALSE(MemoryCgroup::open(hierarchy(), "/"));  // the root has no level
    EXPECT_FALSE(MemoryCgroup::open(hierarchy(), "/one/memory.stat"));
    const auto none = CgroupHierarchy::find(root() + "/one");
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().kind, ErrorKind::unsupported);
}

TEST_F(CostCgroup, SamplesAreChangesAndBeats) {
    legacy_group("g");
    const auto group = MemoryCgroup::open(hierarchy(), "/g");
    ASSERT_TRUE(group);
    const auto source = poll_source(*group, std::chrono::milliseconds(1));
    TraceCollector collector;
    for (int i = 0; i < 3; i++) ASSERT_TRUE(source->drain(collector));
    ASSERT_EQ(collector.trace.samples.size(), 1u);
    EXPECT_EQ(collector.trace.samples[0].inactive_file, 8192u);
    write("cg/memory/g/memory.usage_in_bytes", "1000000\n");
    ASSERT_TRUE(source->drain(collector));
    ASSERT_EQ(collector.trace.samples.size(), 2u);
    EXPECT_EQ(collector.trace.samples[1].bytes, 1'000'000u);
    EXPECT_EQ(source->peak_bytes(), 3u << 20);  // the watermark
}

TEST_F(CostCgroup, ContainersOfAllEnginesAreKnownByTheirPaths) {
    const auto check = [](const std::string& path, const std::string& engine,
                          const std::string& id) {
        const auto found = identify_container(path);
        ASSERT_TRUE(found) << path;
        EXPECT_EQ(found->engine, engine) << path;
        EXPECT_EQ(found->id, id) << path;
    };
    check("/docker/" + id_a, "docker", id_a);
    check("/system.slice/docker-" + id_a + ".scope", "docker", id_a);
    check("/system.slice/docker-" + id_a + ".scope/init.scope", "docker", id_a);
    check("/default/" + id_a, "containerd", id_a);
    check("/default/web", "containerd", "web");
    check("/kubepods/burstable/pod1/" + id_a, "kubernetes", id_a);
    check("/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id_a + ".scope", "kubernetes",
          id_a);
    check("/x/kubepods-pod1.slice:cri-containerd:" + id_a, "kubernetes", id_a);
    check("/kubepods.slice/crio-" + id_a + ".scope", "cri-o", id_a);
    check("/machine.slice/libpod-" + id_a + ".scope/container", "podman", id_a);
    check("/libpod_parent/libpod-" + id_a, "podman", id_a);
    check("/user.slice/libpod-payload-" + id_a, "podman", id_a);
    check("/system.slice/runc-web.scope", "runc", "web");
    check("/memplate/big-state-dc65b6", "memplate", "big-state-dc65b6");
    for (const std::string path : {"/", "", "/system.slice/cron.service", "/docker",
                                   "/machine.slice/libpod-conmon-", "/a/b"})
        EXPECT_FALSE(identify_container(path)) << path;
    EXPECT_FALSE(identify_container("/machine.slice/libpod-conmon-" + id_a + ".scope"));
    EXPECT_FALSE(identify_container("/kubepods.slice/crio-conmon-" + id_a + ".scope"));
}

TEST_F(CostCgroup, ContainersAreFoundByNameIdAndBeginning) {
    container("docker/" + id_a);
    container("docker/" + id_b);
    container("machine.slice/libpod-" + id_c + ".scope/container");
    write("var/lib/docker/containers/" + id_a + "/config.v2.json", "{\"Name\":\"/web\"}");
    write("var/lib/docker/containers/" + id_b + "/config.v2.json", "no json");
    write("var/lib/docker/containers/stopped/config.v2.json", "{\"Name\":\"/old\"}");
    write("var/lib/containers/storage/overlay-containers/containers.json",
          "[{\"id\":\"" + id_c + "\",\"names\":[\"db\"]},5,{\"id\":7}]");
    const auto find = [&](const std::string& name) {
        return find_container(hierarchy(), name, root() + "/..");
    };
    EXPECT_EQ(find("web")->cgroup, "/docker/" + id_a);
    EXPECT_EQ(find(id_b)->cgroup, "/docker/" + id_b);
    EXPECT_EQ(find("db")->engine, "podman");
    EXPECT_EQ(find("cccc")->cgroup, "/machine.slice/libpod-" + id_c + ".scope");
    EXPECT_THAT(find("aaaa").error().message, HasSubstr("2 containers match"));
    EXPECT_THAT(find("nosuch").error().message, HasSubstr("no such container"));
    EXPECT_THAT(find("old").error().message, HasSubstr("does not run"));
    EXPECT_FALSE(find("ccc"));  // too short to be meant
}

}  // namespace
}  // namespace memplate::cost

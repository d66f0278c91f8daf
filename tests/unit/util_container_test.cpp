// SPDX-License-Identifier: Apache-2.0
//
// Names and images of containers from the state files of their engines, in a fake file system.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "util/container_state.h"
#include "util/fs.h"

namespace memplate {
namespace {

const std::string id = std::string(60, 'a') + "0001";

class UtilContainer : public testing::Test {
  protected:
    void SetUp() override {
        auto created = TemporaryDirectory::create("/tmp", "memplate-test-container");
        ASSERT_TRUE(created) << created.error().message;
        directory_ = std::move(*created);
    }
    void write(const std::string& path, const std::string& text) const {
        const std::filesystem::path full = directory_.path() + "/" + path;
        std::filesystem::create_directories(full.parent_path());
        std::ofstream(full) << text;
    }
    [[nodiscard]] Container described(const std::string& path) const {
        auto container = identify_container(path).value_or(Container{"cgroup", "", "", path, ""});
        describe_container(container, directory_.path() + "/instances", directory_.path());
        return container;
    }

  private:
    TemporaryDirectory directory_;
};

TEST_F(UtilContainer, Docker) {
    write("var/lib/docker/containers/" + id + "/config.v2.json",
          R"({"Name":"/web","Config":{"Image":"alpine:3.20"}})");
    const Container container = described("/docker/" + id);
    EXPECT_EQ(container.name, "web");
    EXPECT_EQ(container.image, "alpine:3.20");
}

TEST_F(UtilContainer, Podman) {
    write("var/lib/containers/storage/overlay-containers/volatile-containers.json",
          R"([{"id":")" + id + R"(","names":["db"],"metadata":)" +
              R"("{\"image-name\":\"docker.io/library/postgres:16\",\"name\":\"db\"}"}])");
    const Container container = described("/machine.slice/libpod-" + id + ".scope/container");
    EXPECT_EQ(container.name, "db");
    EXPECT_EQ(container.image, "docker.io/library/postgres:16");
    EXPECT_EQ(known_container_names("").count(id), 0U);
}

TEST_F(UtilContainer, KubernetesThroughContainerd) {
    write("run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/config.json",
          R"({"annotations":{"io.kubernetes.cri.sandbox-name":"web-7f",)"
          R"("io.kubernetes.cri.container-name":"nginx",)"
          R"("io.kubernetes.cri.image-name":"nginx:1.27"}})");
    const Container container =
        described("/kubepods.slice/kubepods-pod1.slice/cri-containerd-" + id + ".scope");
    EXPECT_EQ(container.name, "web-7f/nginx");
    EXPECT_EQ(container.image, "nginx:1.27");
}

TEST_F(UtilContainer, RuntimesWithoutAnEngineByTheirCgroup) {
    write("run/runc/box/state.json",
          R"({"cgroup_paths":{"memory":"/sys/fs/cgroup/memory/any/where"},)"
          R"("config":{"labels":["x=y","bundle=/nosuch"]}})");
    write("run/crun/other/status", R"({"cgroup-path":"/any/place","bundle":"/nosuch"})");
    EXPECT_EQ(described("/any/where").engine, "runc");
    EXPECT_EQ(described("/any/where").name, "box");
    EXPECT_EQ(described("/any/place").engine, "crun");
    EXPECT_EQ(described("/any/place").name, "other");
    EXPECT_EQ(described("/where").engine, "cgroup");
}

TEST_F(UtilContainer, MemplateInstancesHaveTheirTemplateAsImage) {
    write("instances/hello-1a2b3c/state.json", R"({"id":"hello-1a2b3c","template":"hello"})");
    EXPECT_EQ(described("/memplate/hello-1a2b3c").image, "hello");
    EXPECT_EQ(described("/memplate/hello-ffffff").image, "");
}

TEST_F(UtilContainer, DamagedFilesTellNothing) {
    for (const char* text :
         {"", "no json", "[]", "{\"Name\":5,\"Config\":[]}", "{\"Name\":null}"}) {
        write("var/lib/docker/containers/" + id + "/config.v2.json", text);
        write("var/lib/containers/storage/overlay-containers/containers.json", text);
        write("run/runc/box/state.json", text);
        EXPECT_EQ(described("/docker/" + id).name, "") << text;
        EXPECT_EQ(described("/machine.slice/libpod-" + id + ".scope").image, "") << text;
    }
}

}  // namespace
}  // namespace memplate

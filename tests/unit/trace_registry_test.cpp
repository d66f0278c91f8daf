// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include "trace/filter.h"
#include "trace_fixture.h"

namespace memplate::trace {
namespace {

using Answer = Filter::Answer;

class TraceRegistry : public TraceTree {};

TEST_F(TraceRegistry, ContainersUnitsAndCgroupsByPath) {
    const auto engine = [](const std::string& path) { return container_of(path).engine; };
    EXPECT_EQ(engine("/docker/" + docker_id), "docker");
    EXPECT_EQ(engine("/docker/" + docker_id + "/system.slice/nginx.service"), "docker");
    EXPECT_EQ(engine("/memplate/hello-1a2b3c"), "memplate");
    EXPECT_EQ(engine("/system.slice/ssh.service"), "systemd");
    EXPECT_EQ(engine("/system.slice"), "cgroup");
    const Container unit =
        container_of("/user.slice/user-0.slice/user@0.service/app.slice/a.service/deeper");
    EXPECT_EQ(unit.name, "a.service");
    EXPECT_EQ(unit.cgroup, "/user.slice/user-0.slice/user@0.service/app.slice/a.service");
}

TEST_F(TraceRegistry, WhatExistsIsFoundByWalking) {
    const uint64_t docker = group("/docker");
    const uint64_t web = group("/docker/" + docker_id);
    const uint64_t inner = group("/docker/" + docker_id + "/init.scope", "17\n");
    const uint64_t idle = group("/idle");
    Registry registry(hierarchy());
    registry.walk();
    ASSERT_TRUE(registry.find(web));
    EXPECT_EQ(registry.find(inner), registry.find(web));
    EXPECT_EQ(registry.find(inner)->cgroup, web);
    EXPECT_TRUE(registry.find(web)->occupied);  // by what is inside
    EXPECT_FALSE(registry.find(docker)->occupied);
    EXPECT_FALSE(registry.find(idle)->occupied);
    EXPECT_EQ(registry.find(web)->name(), docker_id.substr(0, 12));
    EXPECT_FALSE(registry.unknown());
    EXPECT_EQ(registry.take_new().size(), 3U);
    EXPECT_TRUE(registry.take_new().empty());
}

TEST_F(TraceRegistry, UnknownIdsAskForAnotherWalkOnce) {
    Registry registry(hierarchy());
    registry.walk();
    const uint64_t late = group("/late");
    EXPECT_FALSE(registry.find(late));
    EXPECT_FALSE(registry.find(987654321));
    EXPECT_TRUE(registry.unknown());
    registry.walk();
    EXPECT_TRUE(registry.find(late));
    EXPECT_FALSE(registry.find(987654321));
    EXPECT_FALSE(registry.unknown());  // what no walk finds is asked for no more
}

TEST_F(TraceRegistry, IdsOfRemovedCgroupsBelongToNobody) {
    Registry registry(hierarchy());
    EXPECT_TRUE(registry.made(500, "/docker/" + docker_id));
    EXPECT_FALSE(registry.made(500, "/docker/" + docker_id));
    const auto first = registry.find(500);
    EXPECT_EQ(registry.gone(500), first);
    EXPECT_FALSE(registry.find(500));
    EXPECT_FALSE(registry.unknown());
    EXPECT_FALSE(registry.gone(500));
    // Whatever gets the number later is another one.
    EXPECT_TRUE(registry.made(500, "/other"));
    ASSERT_TRUE(registry.find(500));
    EXPECT_NE(registry.find(500), first);
    EXPECT_EQ(registry.find(500)->name(), "/other");
}

TEST_F(TraceRegistry, APathMadeAgainIsAnotherContainer) {
    Registry registry(hierarchy());
    registry.made(1, "/job");
    const auto first = registry.find(1);
    registry.made(2, "/job");  // the removal between was lost
    EXPECT_FALSE(registry.find(1));
    EXPECT_NE(registry.find(2), first);
}

TEST_F(TraceRegistry, APinnedCgroupCountsForItself) {
    Registry registry(hierarchy());
    const std::string web = "/docker/" + docker_id;
    registry.pin(web + "/worker");
    registry.made(1, web);
    registry.made(2, web + "/worker");
    registry.made(3, web + "/worker/child");
    EXPECT_EQ(registry.find(1)->container.engine, "docker");
    EXPECT_EQ(registry.find(2)->cgroup, 2U);
    EXPECT_EQ(registry.find(3)->cgroup, 2U);
}

TEST_F(TraceRegistry, FiltersMatchPatterns) {
    Member member;
    member.container = {"docker", docker_id, "web-1", "/docker/" + docker_id,
                        "registry.test/library/alpine:3.20"};
    member.resolved = true;
    const auto answer = [&](const Filter& filter, const std::string& command = "") {
        return filter.matches(member, command);
    };
    EXPECT_EQ(answer({}), Answer::yes);
    EXPECT_EQ(answer({.names = {"web-?"}}), Answer::yes);
    EXPECT_EQ(answer({.names = {"db", "web*"}}), Answer::yes);
    EXPECT_EQ(answer({.names = {"db"}}), Answer::no);
    EXPECT_EQ(answer({.names = {docker_id.substr(0, 6)}}), Answer::yes);
    EXPECT_EQ(answer({.cgroups = {"/docker"}}), Answer::yes);
    EXPECT_EQ(answer({.cgroups = {"docker/"}}), Answer::yes);
    EXPECT_EQ(answer({.cgroups = {"/dock"}}), Answer::no);
    EXPECT_EQ(answer({.cgroups = {"/"}}), Answer::yes);
    for (const char* image : {"alpine", "alpine:3.20", "registry.test/library/alpine", "*/alpine*"})
        EXPECT_EQ(answer({.images = {image}}), Answer::yes) << image;
    EXPECT_EQ(answer({.images = {"alp"}}), Answer::no);
    EXPECT_EQ(answer({.commands = {"sh"}}), Answer::unknown);
    EXPECT_EQ(answer({.commands = {"sh"}}, "/bin/sh"), Answer::yes);
    EXPECT_EQ(answer({.commands = {"/bin/*"}}, "/usr/bin/python3"), Answer::no);
    EXPECT_EQ(answer({.names = {"db"}, .commands = {"sh"}}), Answer::no);
}

TEST_F(TraceRegistry, FiltersWaitForNamesThatMayCome) {
    Member member;
    member.container = {"docker", docker_id, "", "/docker/" + docker_id, ""};
    const Filter name{.names = {"web"}};
    const Filter image{.images = {"alpine"}};
    EXPECT_EQ(name.matches(member, ""), Answer::unknown);
    EXPECT_EQ(image.matches(member, ""), Answer::unknown);
    member.resolved = true;
    EXPECT_EQ(name.matches(member, ""), Answer::no);
    EXPECT_EQ(image.matches(member, ""), Answer::no);
}

}  // namespace
}  // namespace memplate::trace

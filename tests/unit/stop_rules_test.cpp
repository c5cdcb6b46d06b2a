// What `portctl stop` ends and what it spares, as data in, data out.
#include <catch2/catch.hpp>

#include "core/stop_rules.hpp"
#include "core_world.hpp"

using namespace portwrap;

namespace {

using Pids = std::vector<std::int32_t>;

ProcessId id(std::int32_t pid) { return {pid, static_cast<std::uint64_t>(pid)}; }  // the higher the number, the younger

Pids pids(std::vector<ProcessId> processes) {
    Pids numbers;
    numbers.reserve(processes.size());
    for (const auto& process : processes) { numbers.push_back(process.pid); }
    std::sort(numbers.begin(), numbers.end());
    return numbers;
}

/// A shell (10) that was wrapped in the project /r/a, and what is started in it.
struct Scene {
    StopScene known;
    std::vector<ProcessLink> processes{{id(1), 0}, {id(10), 1}};

    Scene() { known.runs.emplace(id(10), true); }
    void process(std::int32_t pid, std::int32_t parent) { processes.push_back({id(pid), parent}); }
    void run(std::int32_t pid, std::int32_t parent, bool own) {
        process(pid, parent);
        known.runs.emplace(id(pid), own);
    }
    void serves(std::int32_t pid, bool own) { known.programs.push_back({id(pid), id(10), own, false}); }
    StopMembers stop(const Pids& meant) {
        for (auto& program : known.programs) { program.meant = std::find(meant.begin(), meant.end(), program.process.pid) != meant.end(); }
        return members_to_stop(known, processes);
    }
};

/// In it a nested run of its own project (20: npm, 21: the server, 22: its worker), another one (30) and another project's (40, 41).
struct NestedRuns : Scene {
    NestedRuns() {
        run(20, 10, true);
        process(21, 20);
        process(22, 21);
        run(30, 10, true);
        run(40, 10, false);
        process(41, 40);
        serves(21, true);
        serves(30, true);
        serves(41, false);
    }
};

}  // namespace

TEST_CASE("a server of a nested run is stopped with that run alone", "[stop]") {
    NestedRuns scene;
    auto members = scene.stop({21});
    CHECK(pids(members.commands) == Pids{20});
    CHECK(pids(members.holders) == Pids{21});
    CHECK(pids(members.others) == Pids{22});
    // portwrap becomes its command: the server may be that itself.
    members = scene.stop({30});
    CHECK(pids(members.commands) == Pids{30});
    CHECK(pids(members.holders) == Pids{30});
    CHECK(members.others.empty());
    members = scene.stop({21, 30});
    CHECK(pids(members.commands) == Pids{20, 30});
    CHECK(pids(members.holders) == Pids{21, 30});
}

TEST_CASE("a server that was started in the outermost run is stopped with all of it but what is another project's", "[stop]") {
    NestedRuns scene;
    scene.process(50, 10);
    scene.process(51, 50);
    scene.serves(51, true);
    // Another project's server without a run of its own, the shell that it was started in, and a program below it.
    scene.process(60, 10);
    scene.process(61, 60);
    scene.process(62, 61);
    scene.serves(61, false);
    // What is started of this project in another one's run, and what that run left behind.
    scene.run(42, 41, true);
    scene.serves(42, true);
    scene.process(70, 1);
    scene.serves(70, false);
    const auto members = scene.stop({51});
    CHECK(pids(members.commands) == Pids{10});
    CHECK(pids(members.holders) == Pids{21, 30, 51});
    CHECK(pids(members.others) == Pids{20, 22, 50, 60});
}

TEST_CASE("a run within a nested run is the one that is stopped, and ends with the one around it", "[stop]") {
    NestedRuns scene;
    scene.run(23, 22, true);
    scene.serves(23, true);
    CHECK(pids(scene.stop({23}).commands) == Pids{23});
    const auto around = scene.stop({21});
    CHECK(pids(around.commands) == Pids{20});
    CHECK(pids(around.holders) == Pids{21, 23});
    CHECK(pids(around.others) == Pids{22});
}

TEST_CASE("a run of the project is stopped also where another project's run is around it", "[stop]") {
    NestedRuns scene;
    scene.run(42, 41, true);
    scene.process(43, 42);
    scene.serves(43, true);
    const auto members = scene.stop({43});
    CHECK(pids(members.commands) == Pids{42});
    CHECK(pids(members.holders) == Pids{43});
    CHECK(members.others.empty());
}

TEST_CASE("a server that another project's run or program has started is stopped alone", "[stop]") {
    NestedRuns scene;
    scene.process(44, 40);
    scene.process(45, 44);
    scene.serves(44, true);
    scene.process(46, 41);
    scene.serves(46, true);
    auto members = scene.stop({44});
    CHECK(members.commands.empty());
    CHECK(pids(members.holders) == Pids{44});
    CHECK(pids(members.others) == Pids{45});
    CHECK(pids(scene.stop({46}).holders) == Pids{46});
    // Beside a server of the outermost run it is stopped as well, if it is meant.
    scene.process(50, 10);
    scene.serves(50, true);
    members = scene.stop({44, 50});
    CHECK(pids(members.commands) == Pids{10});
    CHECK(pids(members.holders) == Pids{21, 30, 44, 50});
    CHECK(pids(members.others) == Pids{20, 22, 45});
}

TEST_CASE("an orphan belongs to the outermost run, that run's orphans to it, but to no nested run", "[stop]") {
    NestedRuns scene;
    scene.process(70, 1);
    scene.process(71, 70);
    scene.serves(70, true);
    CHECK(pids(scene.stop({21}).holders) == Pids{21});
    auto members = scene.stop({70});
    CHECK(pids(members.commands) == Pids{10});
    CHECK(pids(members.holders) == Pids{21, 30, 70});
    CHECK(pids(members.others) == Pids{20, 22, 71});
    scene.process(50, 10);
    scene.serves(50, true);
    CHECK(pids(scene.stop({50}).holders) == Pids{21, 30, 50, 70});
    // The outermost run is over, or another project's: then it names nothing that could be ended for it.
    scene.known.runs[id(10)] = false;
    members = scene.stop({70});
    CHECK(members.commands.empty());
    CHECK(pids(members.holders) == Pids{70});
    scene.known.runs.erase(id(10));
    CHECK(pids(scene.stop({70}).holders) == Pids{70});
}

TEST_CASE("a program of two projects is stopped alone, and spared where it is not meant", "[stop]") {
    NestedRuns scene;
    scene.process(50, 10);
    scene.process(51, 50);
    scene.serves(50, true);
    scene.serves(50, false);
    auto members = scene.stop({50});
    CHECK(members.commands.empty());
    CHECK(pids(members.holders) == Pids{50});
    CHECK(pids(members.others) == Pids{51});
    scene.process(52, 10);
    scene.serves(52, true);
    members = scene.stop({52});
    CHECK(pids(members.holders) == Pids{21, 30, 52});
    CHECK(pids(members.others) == Pids{20, 22});
}

TEST_CASE("a recycled pid is neither an ancestor nor a descendant", "[stop]") {
    Scene scene;
    scene.process(20, 10);
    scene.serves(20, true);
    scene.processes[1].process.start_ticks = 99;  // another process has the shell's number by now
    scene.processes.push_back({{30, 5}, 20});     // older than what it seems to be below
    const auto members = scene.stop({20});
    CHECK(pids(members.commands) == Pids{10});  // by its lease; who signals looks at the start time, too
    CHECK(pids(members.holders) == Pids{20});
    CHECK(members.others.empty());
}

TEST_CASE("processes that were read as a circle come to an end", "[stop]") {
    Scene scene;
    scene.processes.push_back({{20, 7}, 21});
    scene.processes.push_back({{21, 7}, 20});
    scene.known.programs.push_back({{20, 7}, std::nullopt, true, false});
    const auto members = scene.stop({20});
    CHECK(members.commands.empty());
    CHECK(pids(members.others) == Pids{21});
}

TEST_CASE("the scene of a stop is what the registry knows of runs and of programs with live leases", "[stop]") {
    test::World world;
    const auto here = world.place("/r/a");
    const auto there = world.place("/r/b");
    const auto shell = world.start(here);
    auto nested = shell;
    nested.holder = {{2000, 5}, "node api.js", "/r/a", world.now};
    auto run = *shell.scope;
    run.id = nested.holder.process;
    world.apply({SessionOpened{run}});
    const auto meant = world.serve(shell, 3000);
    (void)world.serve(nested, 4000);
    const auto other = world.start(there);
    (void)world.serve(other, 5000);
    (void)world.get(here, "silent");
    world.close(world.serve(other, 6000).cookie);

    const auto scene = stop_scene(world.registry, "/r/a", {&world.lease(meant.lease)});
    CHECK(scene.runs == std::map<ProcessId, bool>{{shell.holder.process, true}, {{2000, 5}, true}, {other.holder.process, false}});
    REQUIRE(scene.programs.size() >= 3);
    CHECK(scene.programs[0].process == shell.holder.process);
    CHECK((scene.programs[0].own && scene.programs[0].meant));
    CHECK(scene.programs[1].process == ProcessId{2000, 5});
    CHECK((scene.programs[1].own && !scene.programs[1].meant));
    CHECK(scene.programs[1].session == shell.holder.process);
    CHECK(scene.programs[2].process == other.holder.process);
    CHECK(!scene.programs[2].own);
}

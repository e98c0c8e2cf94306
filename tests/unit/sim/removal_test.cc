// Taking a fault out of a run leaves the choices about everything it does not touch as they were: a choice is named by
// its cause, not by how many were made before it. Two lock services share the world, the network and one client
// machine; faults strike one of them, and the other must not notice whether one of those is left out.
#include <fmt/format.h>

#include <map>
#include <vector>

#include "sim/machine.h"
#include "sim/network.h"
#include "tests/unit/sim/toy_lock.h"

using namespace mneme;
using namespace mneme::sim;
using mneme::sim::testing::LockService;

namespace {

constexpr WorldTime kMs = 1'000'000;
constexpr uint32_t kRed = 1;
constexpr uint32_t kBlue = 2;
constexpr uint32_t kBoth = 3;
constexpr uint32_t kBluesOwn = 4;

class Run {
 public:
  struct Fault {
    WorldTime at_ms;
    const char* what;
    void (Run::*strike)();
  };
  // All of them strike red, what it says and hears included.
  static const std::vector<Fault>& faults() {
    static const std::vector<Fault> all = {
        {400, "kill", &Run::kill},
        {900, "block", &Run::block},
        {1700, "power loss", &Run::lose_power},
        {2300, "clog", &Run::clog},
        {2900, "reset", &Run::reset},
        {3300, "failed sync", &Run::fail_sync},
        {3700, "slow disk", &Run::slow_disk},
        {4100, "hung disk", &Run::hang_disk},
        {4500, "pause", &Run::pause},
    };
    return all;
  }

  Run(uint64_t seed, Strategy strategy, const Fault* left_out) : world_(seed, options(strategy), nullptr) {
    for (const char* name : {"red", "blue", "both", "blue's own"}) world_.add_machine(name, {});
    world_.run([&] {
      auto ended = fiber::with_scope(world_.scheduler(), [&](fiber::Scope& scope) { story(scope, left_out); });
      CHECK(ended.has_value());
    });
  }

  const std::string& red() const { return red_.diary; }
  const std::string& blue() const { return blue_.diary; }
  // What power losses left of blue's files.
  const Bytes& blue_files() const { return blue_files_; }

 private:
  static WorldOptions options(Strategy strategy) {
    WorldOptions options;
    options.schedule.strategy = strategy;
    options.split_ppm = 200'000;
    options.latency_tail_ppm = 100'000;
    return options;
  }

  void story(fiber::Scope& scope, const Fault* left_out) {
    scope_ = &scope;
    boot(kRed);
    boot(kBlue);
    world_.machine(kBoth).boot(
        scope,
        [this](Env& env) {
          return fiber::with_scope(env.scheduler, [&](fiber::Scope& inner) {
            inner.spawn("red", [&] { return red_.use(env, UINT64_MAX); });
            inner.spawn("blue", [&] { return blue_.use(env, UINT64_MAX); });
          });
        },
        [](Result<void>) {});
    world_.machine(kBluesOwn).boot(
        scope, [this](Env& env) { return blue_.use(env, UINT64_MAX); }, [](Result<void>) {});
    for (const Fault& fault : faults()) {
      world_.sleep_until(fault.at_ms * kMs);
      if (&fault != left_out) (this->*fault.strike)();
    }
    // One for blue that strikes in every run.
    world_.sleep_until(5'200 * kMs);
    crash(kBlue, CrashKind::kPowerLoss);
    world_.sleep_until(8'000 * kMs);
    for (uint32_t m = kRed; m <= kBluesOwn; ++m) world_.machine(m).crash(CrashKind::kPowerLoss);
    world_.sleep_for(kMs);
    world_.machine(kBlue).boot(
        scope,
        [this](Env& env) -> Result<void> {
          blue_files_ = TRY(env::read_file(env.disk, "lock/log", limits::kMiB));
          const Bytes draft = TRY(env::read_file(env.disk, "lock/draft", limits::kMiB));
          blue_files_.insert(blue_files_.end(), draft.begin(), draft.end());
          return {};
        },
        [](Result<void> result) { CHECK(result.has_value()); });
    world_.sleep_for(1000 * kMs);
    scope.cancel();
  }

  void boot(uint32_t server) {
    LockService& service = server == kRed ? red_ : blue_;
    world_.machine(server).boot(
        *scope_, [&service](Env& env) { return service.serve(env); }, [](Result<void>) {});
  }
  void crash(uint32_t server, CrashKind kind) {
    world_.machine(server).crash(kind);
    scope_->spawn("restart", [this, server] {
      world_.sleep_for(100 * kMs);
      boot(server);
    });
  }
  void kill() { crash(kRed, CrashKind::kKill); }
  void lose_power() { crash(kRed, CrashKind::kPowerLoss); }
  void block() { world_.network().block(kBoth, kRed, world_.now() + 500 * kMs); }
  void clog() { world_.network().clog(kRed, kBoth, world_.now() + 300 * kMs); }
  // Again and again, since there may be no connection at one moment.
  void reset() {
    scope_->spawn("resets", [this] {
      for (int i = 0; i < 10; ++i, world_.sleep_for(5 * kMs)) world_.network().reset(kRed, kBoth);
    });
  }
  void fail_sync() { world_.machine(kRed).disk().fail_next_sync(); }
  void slow_disk() { world_.machine(kRed).disk().set_slowness(50); }
  void hang_disk() {
    world_.machine(kRed).disk().set_hung(true);
    scope_->spawn("go on", [this] {
      world_.sleep_for(300 * kMs);
      world_.machine(kRed).disk().set_hung(false);
    });
  }
  void pause() { world_.machine(kRed).pause_until(world_.now() + 300 * kMs); }

  World world_;
  LockService red_{world_, "red", 20};
  LockService blue_{world_, "blue", 20};
  fiber::Scope* scope_ = nullptr;
  Bytes blue_files_;
};

}  // namespace

TEST_CASE("taking out a fault leaves the choices about everything it does not touch as they were", "[sim]") {
  // The other strategies count picks.
  const auto strategy = GENERATE(Strategy::kFifo, Strategy::kRandom);
  constexpr int kSeeds = 10;
  std::map<std::string, int> felt;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const Run whole(seed, strategy, nullptr);
    REQUIRE(whole.blue().size() > 10'000);
    for (const Run::Fault& fault : Run::faults()) {
      INFO("seed " << seed << " without " << fault.what);
      const Run without(seed, strategy, &fault);
      felt[fault.what] += without.red() != whole.red();
      CHECK((without.blue() == whole.blue()));
      CHECK((without.blue_files() == whole.blue_files()));
    }
  }
  // Red may have been down anyway, but not always.
  for (const Run::Fault& fault : Run::faults()) {
    INFO(fault.what);
    CHECK(felt[fault.what] > kSeeds / 2);
  }
}

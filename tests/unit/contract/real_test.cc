// What only the real world has: threads, signals, descriptors that run out, a kernel that must be asked now and then.
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <set>
#include <thread>

#include "disk/system_error.h"
#include "net/address.h"
#include "net/mailbox.h"
#include "tests/contract/world.h"
#include "tests/unit/contract/real_world.h"

using namespace mneme;
using namespace mneme::contract;

namespace {
using World = RealWorld<disk::Way::kBlocking>;
}

TEST_CASE("what helper threads post runs on the reactor's thread, each thread's in order", "[real]") {
  World world;
  world.run([&] {
    constexpr int kThreads = 4;
    constexpr int kPosts = 2000;
    std::vector<int> last(kThreads, -1);
    int count = 0;
    bool in_order = true;
    bool elsewhere = false;
    const std::thread::id here = std::this_thread::get_id();
    fiber::Condition done(world.here().scheduler);
    std::vector<std::thread> threads;
    for (int t = 0; t < kThreads; ++t)
      threads.emplace_back([&, t] {
        for (int i = 0; i < kPosts; ++i)
          world.loop().post([&, t, i] {
            in_order &= last[static_cast<size_t>(t)] + 1 == i;
            elsewhere |= std::this_thread::get_id() != here;
            last[static_cast<size_t>(t)] = i;
            if (++count == kThreads * kPosts) done.notify_all();
          });
      });
    done.wait_until([&] { return count == kThreads * kPosts; });
    for (std::thread& thread : threads) thread.join();
    CHECK(in_order);
    CHECK_FALSE(elsewhere);
  });
}

TEST_CASE("posting to a loop that is gone does nothing", "[real]") {
  std::shared_ptr<net::EventLoop::Mailbox> mailbox;
  auto dropped = std::make_shared<int>(0);
  {
    World world;
    mailbox = world.loop().mailbox();
    mailbox->post([dropped] { ++*dropped; });
  }
  mailbox->post([dropped] { ++*dropped; });
  CHECK(*dropped == 0);
  CHECK(dropped.use_count() == 1);
}

TEST_CASE("a signal becomes a call between two fibers", "[real]") {
  World world;
  world.run([&] {
    std::vector<int> seen;
    fiber::Condition arrived(world.here().scheduler);
    world.loop().on_signals({SIGUSR1, SIGUSR2}, [&](int signal) {
      seen.push_back(signal);
      arrived.notify_all();
    });
    ::kill(::getpid(), SIGUSR2);
    arrived.wait_until([&] { return seen.size() == 1; });
    ::kill(::getpid(), SIGUSR1);
    arrived.wait_until([&] { return seen.size() == 2; });
    CHECK(seen == std::vector<int>{SIGUSR2, SIGUSR1});
  });
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigaddset(&set, SIGUSR2);
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
}

TEST_CASE("fibers that wake each other for ever keep no timer from firing", "[real]") {
  World world;
  world.run([&] {
    Env& env = world.here();
    fiber::Condition ping(env.scheduler);
    fiber::Condition pong(env.scheduler);
    auto result = fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      scope.spawn_daemon("ping", [&] {
        for (;;) {
          pong.notify_all();
          ping.wait();
        }
      });
      scope.spawn_daemon("pong", [&] {
        for (;;) {
          ping.notify_all();
          pong.wait();
        }
      });
      env.clock.sleep_for(env.scheduler, 2ms);
    });
    CHECK(result.has_value());
  });
}

TEST_CASE("a peer or file that is always ready keeps no other fiber waiting", "[real]") {
  World world;
  world.run([&] {
    Env& env = world.here();
    auto listener = env.network.listen({"127.0.0.1", 0});
    REQUIRE(listener.has_value());
    auto near = env.network.connect((*listener)->address());
    auto far = (*listener)->accept();
    REQUIRE(near.has_value());
    REQUIRE(far.has_value());
    auto file = env.disk.open("file", env::OpenMode::kCreate);
    REQUIRE(file.has_value());
    auto result = fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      // Reads only what it has just written itself, so that it never has to wait.
      scope.spawn_daemon("network", [&]() -> Result<void> {
        uint8_t byte = 0;
        for (;;) {
          TRY((*near)->write({&byte, 1}));
          TRY((*far)->read({&byte, 1}));
        }
      });
      env.clock.sleep_for(env.scheduler, 2ms);
      scope.spawn_daemon("disk", [&]() -> Result<void> {
        for (;;) {
          env.scheduler.throw_if_cancelled();  // files do not ask
          TRY((*file)->write(0, as_bytes("x")));
        }
      });
      env.clock.sleep_for(env.scheduler, 2ms);
    });
    CHECK((result ? "" : result.error().message) == "");
  });
}

TEST_CASE("accepting waits until descriptors are to be had again", "[real]") {
  World world;
  world.run([&] {
    Env& env = world.here();
    auto listener = env.network.listen({"127.0.0.1", 0});
    REQUIRE(listener.has_value());
    auto near = env.network.connect((*listener)->address());
    REQUIRE(near.has_value());
    rlimit before;
    REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
    rlimit none{.rlim_cur = 3, .rlim_max = before.rlim_max};
    REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
    auto too_early = fiber::with_deadline(env.scheduler, env.clock.timers(), env.clock.now() + 5ms,
                                          [&] { return (*listener)->accept(); });
    ::setrlimit(RLIMIT_NOFILE, &before);
    CHECK(is(too_early, ErrorCode::kTimeout));
    CHECK((*listener)->accept().has_value());
  });
}

TEST_CASE("IPv6, and names, lead to listeners too", "[real]") {
  World world;
  world.run([&] {
    Env& env = world.here();
    auto everywhere = env.network.listen({"::", 0});
    if (!everywhere) {
      WARN("not tested: " << everywhere.error().message);
      return;
    }
    const uint16_t port = (*everywhere)->address().port;
    for (std::string host : {"127.0.0.1", "::1", "localhost"}) {
      CAPTURE(host);
      auto near = env.network.connect({host, port});
      REQUIRE(near.has_value());
      auto far = (*everywhere)->accept();
      REQUIRE(far.has_value());
      CHECK((*far)->peer().host == (host == "::1" ? "::1" : "127.0.0.1"));
      CHECK((*far)->peer().port != port);
    }
    CHECK(is(env.network.connect({"", 1}), ErrorCode::kInvalid));
    everywhere->reset();
    CHECK(is(env.network.connect({"localhost", port}), ErrorCode::kRefused));
  });
}

TEST_CASE("a name is looked up without holding up the reactor, and the lookup may be abandoned", "[real]") {
  World world;
  world.run([&] {
    Env& env = world.here();
    // Whatever the answer is and whenever it comes: fibers go on, and leaving early is harmless.
    net::Resolver resolver(world.loop());
    bool others_ran = false;
    auto result = fiber::with_scope(env.scheduler, [&](fiber::Scope& scope) {
      for (int i = 0; i < 3; ++i)
        scope.spawn("lookup", [&] {
          auto found = fiber::with_deadline(env.scheduler, env.clock.timers(), env.clock.now() + 5ms, [&] {
            return resolver.resolve({"no-such-name.invalid", 1});
          });
          CHECK_FALSE(found.has_value());
          if (!found)
            CHECK((found.error().code == ErrorCode::kTimeout || found.error().code == ErrorCode::kUnavailable));
        });
      scope.spawn("other", [&] { others_ran = true; });
      env.clock.sleep_for(env.scheduler, Duration(0));
      CHECK(others_ran);
    });
    CHECK(result.has_value());
  });
}

TEST_CASE("system errors become codes and sentences", "[real]") {
  auto expect = [](int error, ErrorCode code) {
    Error made = disk::system_error("write", "data/log-1", error).error();
    CHECK(made.code == code);
    CHECK(made.message.starts_with("write data/log-1: "));
  };
  expect(ENOSPC, ErrorCode::kNoSpace);
  expect(EDQUOT, ErrorCode::kNoSpace);
  expect(EIO, ErrorCode::kIo);
  expect(ENOENT, ErrorCode::kNotFound);
  expect(EEXIST, ErrorCode::kExists);
  expect(EACCES, ErrorCode::kRefused);
}

TEST_CASE("a root that is missing, foreign or to be made", "[real]") {
  World world;
  const std::string root = world.root() + "/data";
  auto open = [&](const std::string& path, bool make) {
    return disk::open_disk(world.here().scheduler, world.loop(),
                           {.root = path, .make_root = make, .way = disk::Way::kBlocking});
  };
  CHECK(is(open(root, false), ErrorCode::kNotFound));
  CHECK(is(open(root + "/deeper", true), ErrorCode::kNotFound));
  CHECK(open(root, true).has_value());
  CHECK(open(root + "/", true).has_value());
  CHECK(open(root, false).has_value());
  CHECK(is(open("/proc/self/exe", true), ErrorCode::kInvalid));
}

TEST_CASE("the lock's error names the owner", "[real]") {
  World world;
  world.run([&] {
    auto lock = world.here().disk.lock("");
    REQUIRE(lock.has_value());
    auto second = world.here().disk.lock("");
    REQUIRE_FALSE(second.has_value());
    CHECK(second.error().message == fmt::format("the directory {} is in use by process {}", world.root(), ::getpid()));
  });
}

TEST_CASE("a lock holds against other processes and dies with its own", "[real]") {
  TemporaryDirectory directory;
  // Locks the directory, says so, and waits to be killed.
  auto hold = [&](int say) {
    fiber::Scheduler scheduler;
    net::EventLoop loop(scheduler);
    auto disk = disk::open_disk(scheduler, loop, {.root = directory.path(), .way = disk::Way::kBlocking});
    scheduler.run(loop, nullptr, [&] {
      auto lock = (*disk)->lock("");
      const char answer = lock ? 'y' : 'n';
      if (::write(say, &answer, 1) == 1)
        for (;;) ::pause();
    });
  };
  int pipe[2];
  REQUIRE(::pipe(pipe) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    hold(pipe[1]);
    ::_exit(1);
  }
  char answer = '?';
  CHECK(::read(pipe[0], &answer, 1) == 1);
  CHECK(answer == 'y');
  fiber::Scheduler scheduler;
  net::EventLoop loop(scheduler);
  auto disk = disk::open_disk(scheduler, loop, {.root = directory.path(), .way = disk::Way::kBlocking});
  scheduler.run(loop, nullptr, [&] {
    auto refused = (*disk)->lock("");
    CHECK(is(refused, ErrorCode::kBusy));
    if (!refused) CHECK(refused.error().message.ends_with(fmt::format("process {}", child)));
    ::kill(child, SIGKILL);
    ::waitpid(child, nullptr, 0);
    CHECK((*disk)->lock("").has_value());
  });
  ::close(pipe[0]);
  ::close(pipe[1]);
}

namespace {

template <disk::Way kWay>
void write_over_a_limit() {
  RealWorld<kWay> world;
  if (world.unavailable()) return;
  rlimit before;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  rlimit small{.rlim_cur = 1000, .rlim_max = before.rlim_max};
  auto old = ::signal(SIGXFSZ, SIG_IGN);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  world.run([&] {
    env::Disk& disk = world.here().disk;
    auto file = disk.open("file", env::OpenMode::kCreate);
    REQUIRE(file.has_value());
    // The system writes what fits and says so; only the rest fails.
    auto written = (*file)->write(0, content(1, 1500));
    CHECK(is(written, ErrorCode::kTooLarge));
    if (!written) CHECK(written.error().message.find(world.root() + "/file") != std::string::npos);
    CHECK((*file)->size().value_or(0) == 1000);
    CHECK(is((*file)->write_and_sync(500, content(1, 1500)), ErrorCode::kTooLarge));
    CHECK((*file)->write_and_sync(0, content(2, 1000)).has_value());
  });
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, old);
}

}  // namespace

TEST_CASE("a write that the system cuts short goes on until it is done or fails", "[real]") {
  SECTION("blocking") { write_over_a_limit<disk::Way::kBlocking>(); }
  SECTION("on a thread") { write_over_a_limit<disk::Way::kThread>(); }
  SECTION("by io_uring") { write_over_a_limit<disk::Way::kUring>(); }
}

TEST_CASE("both ends of a connection send small pieces at once and probe a silent peer", "[real]") {
  World world;
  world.run([&] {
    Env& env = world.here();
    auto listener = env.network.listen({"127.0.0.1", 0});
    REQUIRE(listener.has_value());
    auto near = env.network.connect((*listener)->address());
    auto far = (*listener)->accept();
    REQUIRE(near.has_value());
    REQUIRE(far.has_value());
    int ends = 0;
    for (int descriptor = 3; descriptor < 200; ++descriptor) {
      net::SocketAddress peer;
      if (::getpeername(descriptor, peer.get(), &peer.size) != 0) continue;
      const uint16_t port = net::to_address(peer).port;
      if (port != (*listener)->address().port && port != (*far)->peer().port) continue;
      ++ends;
      for (auto [level, option] : {std::pair<int, int>(IPPROTO_TCP, TCP_NODELAY), {SOL_SOCKET, SO_KEEPALIVE}}) {
        int value = 0;
        socklen_t size = sizeof value;
        CHECK(::getsockopt(descriptor, level, option, &value, &size) == 0);
        CHECK(value != 0);
      }
    }
    CHECK(ends == 2);
  });
}

TEST_CASE("log lines say when, how bad, where and what, on one line", "[real]") {
  CHECK(net::format_line({1'772'366'400'123}, env::Level::kInfo, "raft", "node 2 leads") ==
        "2026-03-01T12:00:00.123Z info  raft     node 2 leads");
  CHECK(net::format_line({-1}, env::Level::kError, "wal", "a\nb\x7f\x1b[31m").starts_with("1969-12-31T23:59:59.999Z"));
  CHECK(net::format_line({0}, env::Level::kError, "wal", "a\nb\x7f\x1b[31m").ends_with("wal      a?b??[31m"));
}

TEST_CASE("chance comes from the system and never provokes anything rare", "[real]") {
  net::SystemRandom random;
  std::set<uint64_t> drawn;
  for (int i = 0; i < 1000; ++i) drawn.insert(random.draw(Site::kClusterId, 0, 0));
  CHECK(drawn.size() == 1000);
  CHECK_FALSE(random.rarely(Site::kShortBatch, 0));
}

#include "cmd/seed_lanes.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "core/base/bytes.h"
#include "core/base/check.h"

namespace mneme::cmd {

void lane_main(const LanePlan& plan, unsigned lane, bool second, int fd) {
  sim::RunHooks hooks;
  hooks.white_box = plan.white_box;
  hooks.black_box = plan.black_box;
  for (uint64_t seed = plan.first + lane; seed <= plan.last && seed >= plan.first; seed += plan.lanes) {
    sim::Recipe recipe = plan.recipe;
    recipe.seed = seed;
    const Branching branching = second ? Branching::kReplay : Branching::kFork;
    for (SeedOutcome& outcome : run_in_children(recipe, hooks, plan.energy, branching)) {
      outcome.second = second;
      write_all(fd, encode(outcome));
    }
  }
}

namespace {

struct Lane {
  pid_t pid;
  int fd;
  std::string buffer;
};

Lane start_lane(const LanePlan& plan, unsigned number, bool second) {
  int out[2];
  CHECK(::pipe2(out, O_CLOEXEC) == 0);
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  CHECK(pid >= 0);
  if (pid == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::signal(SIGINT, SIG_IGN);  // the parent decides
    if (!second) {
      lane_main(plan, number, false, out[1]);
      _exit(0);
    }
    ::dup2(out[1], STDOUT_FILENO);
    ::setenv("MALLOC_PERTURB_", "165", 1);
    // The environment stands above the stack: its size displaces every frame.
    ::setenv("MNEME_DISPLACEMENT", std::string(4096 + 512 * (number + 1), 'x').c_str(), 1);
    std::vector<std::string> arguments = {"mneme",
                                          "sim-lane",
                                          std::to_string(plan.first),
                                          std::to_string(plan.last),
                                          std::to_string(plan.lanes),
                                          std::to_string(number)};
    arguments.insert(arguments.end(), plan.worker_arguments.begin(), plan.worker_arguments.end());
    std::vector<char*> argv;
    for (std::string& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    ::execv("/proc/self/exe", argv.data());
    _exit(70);
  }
  ::close(out[1]);
  return {pid, out[0], {}};
}

}  // namespace

bool run_lanes(const LanePlan& plan, const std::function<bool(SeedOutcome)>& take, const std::function<bool()>& tick) {
  std::vector<Lane> lanes;
  for (unsigned i = 0; i < plan.lanes; ++i) {
    lanes.push_back(start_lane(plan, i, false));
    if (plan.verify) lanes.push_back(start_lane(plan, i, true));
  }
  bool healthy = true;
  bool wanted = true;
  size_t open = lanes.size();
  while (wanted && open > 0) {
    std::vector<pollfd> polls;
    for (const Lane& lane : lanes) polls.push_back({lane.fd, POLLIN, 0});
    ::poll(polls.data(), polls.size(), 200);
    for (size_t i = 0; i < lanes.size() && wanted; ++i) {
      Lane& lane = lanes[i];
      if (lane.fd < 0 || (polls[i].revents & (POLLIN | POLLHUP)) == 0) continue;
      char chunk[65536];
      ssize_t n = ::read(lane.fd, chunk, sizeof chunk);
      if (n < 0) continue;
      if (n == 0) {
        ::close(lane.fd);
        lane.fd = -1;
        --open;
        int status = 0;
        ::waitpid(lane.pid, &status, 0);
        lane.pid = -1;
        healthy &= WIFEXITED(status) && WEXITSTATUS(status) == 0 && lane.buffer.empty();
        continue;
      }
      lane.buffer.append(chunk, static_cast<size_t>(n));
      while (wanted && lane.buffer.size() >= 4) {
        const uint32_t size = load_le<uint32_t>(reinterpret_cast<const uint8_t*>(lane.buffer.data()));
        if (lane.buffer.size() < 4 + size_t{size}) break;
        SeedOutcome outcome;
        healthy &= decode(std::string_view(lane.buffer).substr(4, size), outcome);
        lane.buffer.erase(0, 4 + size_t{size});
        wanted = take(std::move(outcome));
      }
    }
    if (!tick()) wanted = false;
  }
  for (Lane& lane : lanes) {
    if (lane.pid < 0) continue;
    ::kill(lane.pid, SIGKILL);
    ::waitpid(lane.pid, nullptr, 0);
    ::close(lane.fd);
  }
  return healthy;
}

}  // namespace mneme::cmd

// One binary, `mneme`: a sub-command each in a file of its own.
#include <csignal>

#include "cmd/common.h"

int main(int argc, char** argv) {
  using namespace mneme::cmd;
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app("Mneme: a replicated key-value store, and the deterministic simulator it lives in");
  app.require_subcommand(1);
  app.set_version_flag("--version", build_id());
  app.add_option("--color", color_mode, "auto, always or never")->check(CLI::IsMember({"auto", "always", "never"}));
  app.fallthrough();
  Run run;
  add_sim(app, run);
  add_replay(app, run);
  add_check(app, run);
  add_scenarios(app, run);
  add_node(app, run);
  add_client(app, run);
  add_cluster(app, run);
  add_inspect(app, run);
  add_bench(app, run);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);
    std::string sentence = error.what();
    for (char& c : sentence)
      if (c == '\n') c = ' ';
    return complain(kUsage, sentence + "; see 'mneme --help'");
  }
  return run();
}

// A verdict in words, for a terminal, and as a page with a timeline.
#pragma once

#include <string>

#include "sim/check/checker.h"

namespace mneme::check {

// A few lines, the first of which says it all; ends with a newline.
std::string account(const History& history, const Verdict& verdict);

// A page that stands for itself: no scripts, nothing fetched, light and dark. Shows the clients' operations on one key,
// the violated one if there is one; of a long history the part that matters.
std::string html_page(const History& history, const Verdict& verdict, std::string_view title);

}  // namespace mneme::check

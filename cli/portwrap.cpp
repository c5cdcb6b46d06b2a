// portwrap: a prefix command, like env or nice. `portwrap [OPTIONS] COMMAND [ARG...]` becomes COMMAND by exec.
#include <unistd.h>

#include "launch.hpp"
#include "text.hpp"

int main(int count, char** arguments) {
    using namespace portwrap;
    const auto options =
        parse_launch_options(std::vector<std::string>(arguments + (count > 0 ? 1 : 0), arguments + count));
    if (!options) {
        write_line(STDERR_FILENO, "portwrap: " + printable(options.error().message));
        return k_exit_refused;
    }
    if (!options->show.empty()) { return write_out(options->show) ? 0 : 1; }
    return launch(*options);
}

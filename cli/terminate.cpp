// What std::terminate calls, in place of libstdc++'s own, which prints the exception's demangled name: its demangler would
// be a fortieth of each of the static programs. No exception leaves them; should one, the core dump tells its type.
#include <cstdlib>

namespace __gnu_cxx {

[[noreturn]] void __verbose_terminate_handler();  // NOLINT(bugprone-reserved-identifier): libstdc++'s name
[[noreturn]] void __verbose_terminate_handler() { std::abort(); }  // NOLINT(bugprone-reserved-identifier)

}  // namespace __gnu_cxx

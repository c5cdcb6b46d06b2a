// The numbers of the protocol that every program shares; docs/protocol.md describes the messages.
#pragma once

#include <cstddef>

namespace portwrap {

inline constexpr const char* k_version = "0.1.0";
inline constexpr int k_protocol_version = 1;
inline constexpr int k_json_schema = 1;             ///< of every result shape
inline constexpr std::size_t k_max_line = 64 * 1024;  ///< bytes of one request, newline included
inline constexpr int k_max_json_depth = 32;
inline constexpr std::size_t k_import_bytes = 6'000'000;  ///< of a file of exchange.import
inline constexpr std::size_t k_history_page = 1000;  ///< events of one lease.history: whoever wants more asks for those before

/// Names of the environment variables that tie a process to its session.
inline constexpr const char* k_env_runtime = "PORTWRAP_RUNTIME";  ///< the runtime directory
inline constexpr const char* k_env_session = "PORTWRAP_SESSION";  ///< "PID.STARTTICKS" of the outermost portwrap
inline constexpr const char* k_env_table = "PORTWRAP_TABLE";      ///< name of the project's remap table
inline constexpr const char* k_env_connect = "PORTWRAP_CONNECT";  ///< "off": connections go where they are meant to go
inline constexpr const char* k_env_set = "PORTWRAP_SET";          ///< which variables portwrap set, with hashes of their values
inline constexpr const char* k_env_disable = "PORTWRAP_DISABLE";
inline constexpr const char* k_env_quiet = "PORTWRAP_QUIET";

inline constexpr const char* k_shim_name = "libportwrap.so";

inline constexpr char k_cannot_start = '!';  ///< what an agent writes to its --ready-fd before "CODE message"

/// A client looks at the agent's state in /proc after the first figure and gives up after the second.
inline constexpr int k_patience_ms = 200;
inline constexpr int k_deadline_ms = 5000;
/// A program that got no answer asks nobody for so long.
inline constexpr int k_quiet_ms = 10000;

}  // namespace portwrap

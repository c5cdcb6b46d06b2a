// Environment variables that change what the config says, for people who come from tools that read them. The agent reads
// them when it starts; who starts it must know that they count.
#pragma once

namespace portwrap {

inline constexpr const char* k_config_variables[] = {"DEV_PORT_START", "DEV_PORT_END",   "TEST_PORT_START",          "TEST_PORT_END",    "PROD_PORT_START",
                                                     "PROD_PORT_END",  "RESERVED_PORTS", "PORT_ALLOCATION_STRATEGY", "PORT_AUTO_CLEANUP"};

}  // namespace portwrap

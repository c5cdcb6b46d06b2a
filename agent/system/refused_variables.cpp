// The environment variables that a repository may not set in its users' commands. Its .portwrap.json is read wherever somebody types
// `portwrap ls`, so a name that makes an ordinary program (a shell, git, curl, python, an editor, a pager, a package manager, the C
// library) load code, find other programs, read other configuration or talk to others than its user meant is as good as running the
// repository's code. Names that only the project's own programs read (API_URL, DATABASE_URL, VITE_*, *_PORT, ...) stay free.
#include <algorithm>
#include <array>
#include <cctype>
#include <string>

#include "system/places.hpp"

namespace portwrap {
namespace {

// Whatever they end in.
constexpr auto k_prefixes = std::to_array<std::string_view>({"LD_", "DYLD_", "PYTHON", "PERL5", "RUBY", "GIT_", "BASH_", "PORTWRAP_", "GLIBC_", "GCONV_"});

// Package managers that read their options from the environment in any case: Npm_Config_Script_Shell.
constexpr auto k_caseless_prefixes = std::to_array<std::string_view>({"npm_config_", "yarn_", "pnpm_", "npm_package_"});

// Of tools whose names a project's own variables may begin with, too (BUN_PORT, DOCKER_WEB_PORT): a port is only a number.
constexpr auto k_tools = std::to_array<std::string_view>({
    // the C library, the loader's kin, the shells and what they start
    "MALLOC_", "LOCPATH", "RESOLV_", "TERMINFO", "fish_", "__fish", "FZF_", "LESSOPEN", "LESSCLOSE", "LESSKEY", "LESS_", "STARSHIP_", "DIRENV_", "SUDO_", "XDG_", "DBUS_",
    "SYSTEMD_", "TMUX_",
    // cryptography, networks, remote machines
    "OPENSSL_", "SSL_CERT_", "SSLKEYLOGFILE", "NSS_", "P11_KIT_", "PKCS11_", "KRB5_", "SASL_", "GNUPG", "GPG_", "SSH_", "CURL_", "RSYNC_", "SVN_", "CVS_", "HGRC", "BORG_",
    "GLOBAL_AGENT_", "DOCKER_", "BUILDKIT_", "CONTAINERS_", "PODMAN_", "HELM_", "KUBECTL_", "TF_CLI_", "ANSIBLE_", "VAGRANT_", "CLOUDSDK_", "AWS_CONFIG_", "AWS_SHARED_",
    // compilers and what drives them
    "MAKEF", "MAKE_", "MAKESHELL", "GNUMAKE", "CMAKE_", "CCACHE_", "SCCACHE_", "DISTCC_", "GCC_", "CGO_", "LLVM_", "PKG_CONFIG", "BAZEL_", "MESON_", "NINJA_", "CONAN_",
    "VCPKG_", "QEMU_", "VALGRIND_", "DEBUGINFOD_", "NIX_", "GUIX_", "GUILE_", "CUDA_INJECTION",
    // languages and their package managers
    "NODE_REPL_", "NODE_COMPILE_", "NODE_GYP_", "NODE_EXTRA_CA_", "COREPACK_", "TS_NODE_", "TSX_", "BUN_", "DENO_", "ELECTRON_", "NVM_", "FNM_", "VOLTA_", "ASDF_",
    "MISE_", "PIP_", "PIPX_", "PIPENV_", "POETRY_", "UV_", "PDM_", "HATCH_", "PYENV_", "CONDA_", "VIRTUALENV_", "BUNDLE_", "BUNDLER_", "GEM_", "RBENV_", "RVM_", "PHP_",
    "PHPENV_", "COMPOSER_", "LUA_", "LUAROCKS_", "JAVA_", "_JAVA_", "JDK_", "JVM_", "PERL", "JRUBY_", "GROOVY_", "MAVEN_", "M2_", "MVN_", "GRADLE_", "KOTLIN_", "SBT_", "LEIN_",
    "DOTNET_", "CORECLR_", "COR_", "COMPlus_", "NUGET_", "MSBUILD", "CARGO_", "RUST_", "RUSTC", "RUSTUP_", "RUSTDOC", "RUSTF", "ERL_", "HEX_", "REBAR", "JULIA_", "GHC",
    "CABAL_"});

// Modules and drivers that libraries load.
constexpr auto k_libraries = std::to_array<std::string_view>({"GIO_", "GTK_", "GDK_", "GST_", "QT_", "QML", "KDE_", "LIBGL_", "MESA_", "VK_", "EGL_", "__EGL_", "OCL_ICD_", "GBM_", "LIBVA_", "SDL_",
                                                       "ALSA_", "PULSE_", "PIPEWIRE_", "LADSPA_", "FONTCONFIG_", "ODBC", "LIBMYSQL_", "TEXMF"});

// What a tool's own variables end in.
constexpr auto k_suffixes = std::to_array<std::string_view>({"OPTS",      "_OPTIONS", "_PRELOAD", "PAGER",    "EDITOR",      "BROWSER",         "_ASKPASS",   "_RSH",      "_RC",
                                                      "RCFILE",    "RC_FILE",  "_WRAPPER", "_CA_BUNDLE", "http_proxy", "https_proxy",    "HTTP_PROXY", "HTTPS_PROXY"});

constexpr auto k_names = std::to_array<std::string_view>({
    // where programs, their modules and their configuration are found
    "PATH", "HOME", "USER", "LOGNAME", "PWD", "OLDPWD", "TMPDIR", "TMP", "TEMP", "TEMPDIR", "CDPATH", "FPATH", "MAILPATH", "MANPATH", "INFOPATH", "NODE_PATH", "CLASSPATH",
    "AWKPATH", "AWKLIBPATH", "NLSPATH", "TEXTDOMAINDIR", "TZDIR", "HOSTALIASES", "LOCALDOMAIN", "NIS_PATH", "GETCONF_DIR", "TCLLIBPATH", "TCL_LIBRARY", "TK_LIBRARY",
    "R_HOME", "R_LIBS", "R_LIBS_USER", "R_LIBS_SITE", "R_PROFILE", "R_PROFILE_USER", "R_ENVIRON", "R_ENVIRON_USER", "OCAMLPATH", "OPAMROOT", "MIX_HOME", "MIX_EXS",
    "MIX_ARCHIVES", "MIX_PATH", "TEXINPUTS", "GROFF_BIN_PATH", "MYSQL_HOME", "PGSYSCONFDIR", "PGSERVICEFILE", "LDAPCONF", "N_PREFIX", "VIRTUAL_ENV", "WINEPREFIX",
    "ANT_HOME", "NODE_ICU_DATA", "NODE_V8_COVERAGE", "NODE_REDIRECT_WARNINGS", "NODE_CHANNEL_FD", "ESBUILD_BINARY_PATH", "ASPNETCORE_HOSTINGSTARTUPASSEMBLIES",
    "RIPGREP_CONFIG_PATH", "BAT_CONFIG_PATH", "BAT_CONFIG_DIR", "KUBECONFIG", "MAILCAPS", "MAILCAP", "HG",
    // shells and terminals
    "ENV", "IFS", "SHELL", "SHELLOPTS", "BASHOPTS", "ZDOTDIR", "ZSH", "PS0", "PS1", "PS2", "PS3", "PS4", "PROMPT_COMMAND", "HISTFILE", "FCEDIT", "VISUAL", "TERM", "TERMCAP",
    "TERMINAL", "TMUX", "STY", "LESS", "LESSEDIT", "MORE", "MANOPT", "MANROFFSEQ",
    // their files of commands
    "INPUTRC", "WGETRC", "MAILRC", "PSQLRC", "NETRC", "SCREENRC", "PHPRC", "BASHRC", "ZSHRC", "CONDARC", "BAZELRC", "CURLRC", "IRBRC", "PRYRC", "LYNX_CFG", "LDAPRC",
    "EXINIT", "VIMINIT", "GVIMINIT", "MYVIMRC", "MYGVIMRC", "PARINIT", "VIM", "VIMRUNTIME", "EMACSLOADPATH", "EMACSDATA", "EMACSPATH",
    // proxies
    "all_proxy", "ALL_PROXY", "ftp_proxy", "FTP_PROXY", "no_proxy", "NO_PROXY", "rsync_proxy", "RSYNC_PROXY", "socks_proxy", "SOCKS_PROXY",
    // compilers
    "MAKE", "CC", "CXX", "CPP", "LD", "AR", "AS", "NM", "RANLIB", "STRIP", "OBJCOPY", "FC", "F77", "LEX", "YACC", "CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "FFLAGS", "CPATH",
    "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "DEPENDENCIES_OUTPUT", "SUNPRO_DEPENDENCIES", "CONFIG_SHELL", "CONFIG_SITE",
    // go
    "GOFLAGS", "GOPATH", "GOROOT", "GOENV", "GOBIN", "GOTOOLCHAIN", "GOPROXY",
    "GOSUMDB", "GONOSUMDB", "GOINSECURE", "GOVCS", "GOWORK", "GOAUTH", "GOCACHEPROG", "GOCACHE", "GOMODCACHE"});

// They begin like what is refused, and only say how much is told or in which mode a program runs.
constexpr auto k_harmless = std::to_array<std::string_view>({"RUST_LOG", "RUST_BACKTRACE", "DOTNET_ENVIRONMENT", "BUN_ENV", "DENO_ENV", "JAVA_ENV", "PHP_ENV", "PHP_CLI_SERVER_WORKERS", "UV_THREADPOOL_SIZE"});

// What bundlers put into pages; no other program looks at these.
constexpr auto k_pages = std::to_array<std::string_view>({"VITE_", "NEXT_PUBLIC_", "NUXT_PUBLIC_", "REACT_APP_", "VUE_APP_", "EXPO_PUBLIC_", "GATSBY_", "PUBLIC_"});

template <typename Table>
bool has(const Table& table, std::string_view name) {
    return std::find(table.begin(), table.end(), name) != table.end();
}

template <typename Table>
bool begins_one(const Table& table, std::string_view name) {
    return std::any_of(table.begin(), table.end(), [name](std::string_view prefix) { return name.starts_with(prefix); });
}

bool has_caseless_prefix(std::string_view name) {
    std::string small(name);
    std::transform(small.begin(), small.end(), small.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return begins_one(k_caseless_prefixes, small);
}

}  // namespace

bool is_refused_variable(std::string_view name) {
    if (begins_one(k_prefixes, name) || has_caseless_prefix(name) || has(k_names, name)) { return true; }
    if (begins_one(k_pages, name)) { return name.ends_with("OPTS") || name.ends_with("_OPTIONS"); }
    if (std::any_of(k_suffixes.begin(), k_suffixes.end(), [name](std::string_view suffix) { return name.ends_with(suffix); })) { return true; }
    if (name.ends_with("_PORT") || has(k_harmless, name)) { return false; }
    return begins_one(k_tools, name) || begins_one(k_libraries, name);
}

}  // namespace portwrap

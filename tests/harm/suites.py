#!/usr/bin/python3
"""Other people's test suites, run without portwrap and with it: the same tests must pass and fail. On demand, it takes minutes.

    PORTWRAP_PREFIX=/where/portwrap/is/installed tests/harm/suites.py [python] [needle]

python: CPython's tests of sockets, select, asyncio, HTTP and TLS (Debian's libpython3.11-testsuite).
needle: the tests of an HTTP client from npm, which start servers on fixed ports and on port 0 (mocha).
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as tree
from pathlib import Path

PREFIX = os.environ.get("PORTWRAP_PREFIX", "")
PYTHON_MODULES = ("test_socket", "test_socketserver", "test_select", "test_selectors", "test_httpservers", "test_httplib", "test_urllib2_localnet",
                  "test_ftplib", "test_poplib", "test_smtplib", "test_imaplib", "test_ssl", "test_asyncore", "test_asynchat",
                  "test_asyncio.test_events", "test_asyncio.test_streams", "test_asyncio.test_server", "test_asyncio.test_sock_lowlevel",
                  "test_asyncio.test_selector_events", "test_xmlrpc", "test_wsgiref", "test_docxmlrpc", "test_logging", "test_telnetlib")


def house(work):
    env = {"HOME": str(work / "home"), "XDG_RUNTIME_DIR": str(work / "run"), "XDG_STATE_HOME": str(work / "state"),
           "XDG_CONFIG_HOME": str(work / "config"), "PATH": f"{PREFIX}/bin:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "TERM": "dumb"}
    for name in ("home", "run", "state", "config"):
        (work / name).mkdir(mode=0o700)
    return env


def run(command, env, cwd, wrapped):
    words = ["portwrap", *command] if wrapped else command
    done = subprocess.run(words, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", timeout=1800)
    return done.stdout


def python_suite(work, env, wrapped):
    root = work / ("python-wrapped" if wrapped else "python-plain")
    root.mkdir(exist_ok=True)
    results = {}
    for module in PYTHON_MODULES:
        # Virtual machines with half a vsock hang in its tests; only test_socketserver calls local servers "network".
        report = root / f"{module}.xml"
        resources = ["-u", "network"] if module == "test_socketserver" else []
        text = run(["/usr/bin/python3.11", "-m", "test", "-i", "*VSOCK*", "--junit-xml", str(report), *resources, f"test.{module}"], env, root, wrapped)
        cases = tree.parse(report).getroot().iter("testcase") if report.exists() else ()
        ran = {case.get("name"): next((child.tag for child in case if child.tag in ("failure", "error", "skipped")), case.get("result")) for case in cases}
        results.update(ran or {module: "nothing ran: " + text[-200:]})
    return results


def needle_suite(work, env, wrapped):
    root = work / "needle"
    if not root.exists():
        root.mkdir()
        (root / "package.json").write_text('{"name": "suite", "private": true}')
        install = ["npm", "install", "--ignore-scripts", "--no-audit", "--no-fund", "needle@3.3.1", "mocha@10", "should@13", "sinon@17",
                   "JSONStream@1", "xml2js@0.5", "q@1", "jschardet@3"]
        subprocess.run(install, cwd=root, env=env, check=True, capture_output=True)
        # Its tests want to be where the package is developed.
        module = root / "node_modules" / "needle"
        if not (module / "test").is_dir():
            sys.exit("needle's package has no tests any more")
        (module / "test" / "keys").mkdir(exist_ok=True)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "9", "-subj", "/CN=localhost", "-keyout",
                        "test/keys/ssl.key", "-out", "test/keys/ssl.cert"], cwd=module, check=True, capture_output=True)
    module = root / "node_modules" / "needle"
    specs = sorted(str(path.relative_to(module)) for path in (module / "test").glob("*_spec.js"))
    # One process for each, and none that wants the network outside.
    results = {}
    for spec in specs:
        text = run(["node", str(root / "node_modules/mocha/bin/mocha.js"), "--exit", "-R", "json", spec], env, module, wrapped)
        start = text.find("{\n")
        try:
            report = json.JSONDecoder().raw_decode(text[start:])[0]
        except ValueError:
            results[spec] = "no report: " + text[-200:]
            continue
        for kind in ("passes", "failures", "pending"):
            for test in report[kind]:
                results[f"{spec}: {test['fullTitle']}"] = kind
    return results


SUITES = {"python": python_suite, "needle": needle_suite}


def main():
    if not shutil.which("portwrap", path=f"{PREFIX}/bin"):
        sys.exit("PORTWRAP_PREFIX must name the directory that portwrap is installed in")
    different = 0
    for name in sys.argv[1:] or SUITES:
        work = Path(tempfile.mkdtemp(prefix="pw-", dir="/tmp"))
        env = house(work)
        suite = SUITES[name]
        plain, wrapped = suite(work, env, False), suite(work, env, True)
        changed = sorted(test for test in plain.keys() | wrapped.keys() if plain.get(test) != wrapped.get(test))
        # What is not the same three times without portwrap, or with it, is a matter of time and says nothing about it.
        more = [(suite(work, env, False), suite(work, env, True)) for _ in range(2 if changed else 0)]
        steady = [test for test in changed if all((plain.get(test), wrapped.get(test)) == (one.get(test), other.get(test)) for one, other in more)]
        for test in steady:
            print(f"{name}: {test}: {plain.get(test, 'did not run')} without, {wrapped.get(test, 'did not run')} with portwrap")
        counts = {result: list(plain.values()).count(result) for result in sorted(set(plain.values()))}
        print(f"{name}: {len(plain)} tests, {counts}; {len(steady)} differ with portwrap ({len(changed) - len(steady)} differed once and not again)")
        different += len(steady)
        subprocess.run(["portctl", "agent", "stop"], env=env, capture_output=True)
        shutil.rmtree(work, ignore_errors=True)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())

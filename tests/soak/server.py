"""A small server for the soak. It asks for the port in its arguments, says on one line which it got ("port N", or "failed
ERRNO"), and obeys words on its standard input: close, open, fork (the child keeps the sockets, the parent ends)."""

import os
import socket
import sys
import threading


def listen(port):
    # As real servers do it: one dual-stack socket, or one for each family, by the number.
    families = [(socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")] if "both" in sys.argv else [(socket.AF_INET6, "::")]
    sockets = []
    for family, host in families:
        made = socket.socket(family)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, len(families) - 1)
        made.bind((host, port))
        made.listen()
        sockets.append(made)
        port = made.getsockname()[1]
        threading.Thread(target=answer, args=(made,), daemon=True).start()
    print(f"port {port}", flush=True)
    return sockets


def answer(listener):
    while True:
        try:
            connection, _ = listener.accept()
            connection.sendall(b"HTTP/1.0 200 OK\r\n\r\nhello\n")
            connection.close()
        except OSError:
            return


def close(sockets):
    for one in sockets:
        one.shutdown(socket.SHUT_RDWR)  # wakes the thread in accept, which would keep the socket alive
        one.close()


def main():
    asked = int(sys.argv[1])
    try:
        sockets = listen(asked)
    except OSError as error:
        print(f"failed {error.errno}", flush=True)
        sys.exit(1)
    for word in map(str.strip, sys.stdin):
        if word == "close":
            close(sockets)
            print("closed", flush=True)
        elif word == "open":
            try:
                sockets = listen(asked)
            except OSError as error:
                print(f"failed {error.errno}", flush=True)
        elif word == "fork":
            child = os.fork()
            if child != 0:
                print(f"child {child}", flush=True)
                os._exit(0)
            for one in sockets:
                threading.Thread(target=answer, args=(one,), daemon=True).start()


main()

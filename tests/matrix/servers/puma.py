"""puma with two workers: the master listens, and prints what it was told."""
from server import Server

SERVER = Server(
    port=9292, type="default", needs=("puma",), commands=[["puma", "--workers", "2"]], same_output=False,
    files={"Gemfile": 'source "https://rubygems.org"\n', "config.ru": 'run ->(environment) { [200, {"content-type" => "text/plain"}, ["@CONTENT@"]] }\n'})

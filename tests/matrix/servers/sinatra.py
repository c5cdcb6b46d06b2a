"""sinatra on WEBrick or puma, whichever is there."""
from server import Server

SERVER = Server(
    port=4567, type="default", needs=("ruby", "puma"), commands=[["ruby", "app.rb"]], same_output=False,
    files={"Gemfile": 'source "https://rubygems.org"\n', "app.rb": 'require "sinatra"\nget("/") { "@CONTENT@" }\n'})

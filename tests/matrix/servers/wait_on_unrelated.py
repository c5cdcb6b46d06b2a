"""The same beside an unrelated project whose API is up already on 4000, the first time that this one runs at all."""
from dataclasses import replace

from servers.wait_on import SERVER as WAIT_ON

SERVER = replace(WAIT_ON, ci=False, three=True, cannot={
    "api": "nothing is known of a project that never ran: until its own API has listened once, localhost:4000 is whoever listens there"})

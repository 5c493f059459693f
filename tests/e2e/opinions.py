"""Asks a DNS server with dnspython and prints what it understood: one line for the code and the flags, one per record."""

import sys

import dns.flags
import dns.message
import dns.query
import dns.rcode
import dns.rdataclass
import dns.rdatatype

transport, port, name, rdtype = sys.argv[1:]
query = dns.message.make_query(name, rdtype, use_edns=0, payload=1232)
ask = {"udp": dns.query.udp, "tcp": dns.query.tcp}[transport]
# Strict: octets behind the message and wrong counts are errors, and the reply must be of this question.
reply = ask(query, "127.0.0.1", port=int(port), timeout=30)
print(dns.rcode.to_text(reply.rcode()), dns.flags.to_text(reply.flags).lower())
for section, rrsets in (
    ("answer", reply.answer),
    ("authority", reply.authority),
    ("additional", reply.additional),
):
    for rrset in rrsets:
        for rdata in rrset:
            kind = dns.rdatatype.to_text(rrset.rdtype)
            print(section, rrset.name, rrset.ttl, kind, rdata.to_text(chunksize=0))
print("edns", reply.edns, reply.payload)

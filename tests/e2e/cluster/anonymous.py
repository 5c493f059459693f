"""Speaks TLS to the cluster's port of a host, with no certificate of its own: anonymous.py ADDRESS"""
import socket, ssl, sys

context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
context.set_alpn_protocols(["dunlin/1"])
stream = context.wrap_socket(socket.create_connection((sys.argv[1], 5370), timeout=10))
try:
    # In TLS 1.3 a client hears of a refusal when it reads.
    print("answered" if stream.recv(1) else "refused: closed")
except ssl.SSLError as error:
    print("refused:", error)

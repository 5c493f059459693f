"""A switch that loses and delays frames: wire.py LOSS_PERCENT DELAY_MS JITTER_MS INTERFACE..."""
import heapq, random, select, socket, sys, time

loss, delay, jitter = (float(word) for word in sys.argv[1:4])
ports = []
for name in sys.argv[4:]:
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    port.bind((name, 0))
    port.setblocking(False)
    ports.append(port)
waiting, count, places = [], 0, {}


def take(port):
    """Reads what came in at a port, and decides when it goes out, and where."""
    global count
    for _ in range(64):
        try:
            frame, sender = port.recvfrom(65536)
        except BlockingIOError:
            return
        if sender[2] == socket.PACKET_OUTGOING:
            continue
        places[frame[6:12]] = port
        to = places.get(frame[:6])
        for out in [to] if to else [other for other in ports if other is not port]:
            if random.random() * 100 >= loss:
                due = time.monotonic() + (delay + random.uniform(-jitter, jitter)) / 1000
                count += 1
                heapq.heappush(waiting, (due, count, out, frame))


while True:
    pause = max(0, waiting[0][0] - time.monotonic()) if waiting else None
    for readable in select.select(ports, [], [], pause)[0]:
        take(readable)
    while waiting and waiting[0][0] <= time.monotonic():
        _, _, out, frame = heapq.heappop(waiting)
        try:
            out.send(frame)
        except OSError:
            pass  # lost, as on any wire

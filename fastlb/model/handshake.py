"""How a listener closes without losing a client.

Kernel facts: connect() returns when the SYN-ACK has come, so a client may believe in a connection
that its listener has not got yet; closing a listener resets all that wait in its accept queue and
all whose handshake is under way. There is no call that closes a listener only if it is empty. But
a filter on a listening socket sees each segment, its TCP header first (socket(7), SO_ATTACH_FILTER),
and one that drops SYNs lets nobody new begin, while those who have begun finish. A client whose SYN
was dropped sends it again after a second, to whoever listens then.
"""

# How long those who have begun may take: one round trip.
HANDSHAKE_S = 0.25
SO_ATTACH_FILTER = 26

# Classic BPF as (code, jt, jf, k): drop what has SYN and not ACK, pass the rest.
NO_SYN_PROGRAM = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)

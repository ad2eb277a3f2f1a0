"""What the other side says of the link, and what the sender makes of it: loss, rate, clock, repeats."""

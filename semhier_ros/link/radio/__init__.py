"""Links without IP, or without a session on it: compact frames over datagrams, serial radios and packet modems."""

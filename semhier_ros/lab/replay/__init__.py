"""`semhier replay`: what a planner would have seen of a bag over a link, in virtual time or for real."""

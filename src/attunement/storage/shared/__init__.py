"""What replicas of a service share by Redis: replies, rates, live figures, circuits; each in process where there is none."""

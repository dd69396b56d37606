"""Protected health information in text: found, told, and taken out. `attunement.security.phi.detector.PHIDetector` is the door."""

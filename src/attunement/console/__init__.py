"""The pages that clinicians, reviewers and operators look at: alerts, review queue, clients, service, one's own account."""

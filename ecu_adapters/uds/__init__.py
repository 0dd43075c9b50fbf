"""Unified diagnostic services (ISO 14229): the tester's side, and what tester and ECU share."""

"""Logging set-up, health facts and counters that every service can be handed."""

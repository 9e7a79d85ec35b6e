"""What runs beside the API: each controller is a service with `run()` that reads and writes through the same rules as a client."""

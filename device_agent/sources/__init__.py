"""Where readings come from. A source has `readings()`, an asynchronous iterator."""

"""What payloads say: values with names and times, in whatever form they are sent. Pure."""

"""What is known of a version as one HTML file: no script, no network, answers as text."""

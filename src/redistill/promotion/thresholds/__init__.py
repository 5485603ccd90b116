"""From calibration rows to the threshold of a cascade."""

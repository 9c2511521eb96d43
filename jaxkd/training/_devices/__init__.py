"""The arrays of a run on one device, on several, and over several processes."""

"""Images as files: decoding by stated rules, centre crops, folders and layouts, leaks, and sets to download."""

"""What the router keeps of its traffic: requests and completions without personal data, in shards, for a while."""

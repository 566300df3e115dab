"""Workers: several processes that fold, each its partitions, and one that releases what they count."""

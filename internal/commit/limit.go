package commit

// A limit of operations that nobody said begins with upstream's default, and is
// raised no further than most.
const (
	firstOps = 128
	mostOps  = 1024
)

// raise tries a higher limit of operations after one that a batch has reached: etcd
// tells nobody what its own is. If it is lower it refuses a batch once.
func (c *Committer) raise(reached int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known && c.maxOps == reached {
		c.maxOps = min(2*reached, mostOps)
	}
}

// lower sets the limit below a size that the server refused.
func (c *Committer) lower(size int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.known = true; c.maxOps >= size && c.maxOps > 1; {
		c.maxOps /= 2
	}
}

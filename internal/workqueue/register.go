package workqueue

import "sync"

// maxRegistered bounds a register of deliveries that may end elsewhere, unheard of.
const maxRegistered = 10_000

// A register has the deliveries of a session that were claimed under keys of their own, for
// all its Docks of one queue: a claim in doubt that finds a delivery of the session must not
// take it for its own if it is another's.
type register struct {
	mu  sync.Mutex
	all map[string]int64 // the revision by the key
}

// add notes a delivery, and reports false if it is there already. With forget the register
// begins anew when it is full.
func (c *register) add(key string, rev int64, forget bool) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil || forget && len(c.all) >= maxRegistered {
		c.all = make(map[string]int64)
	}
	if c.all[key] == rev {
		return false
	}
	c.all[key] = rev
	return true
}

// remove forgets a delivery that has ended.
func (c *register) remove(key string, rev int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[key] == rev {
		delete(c.all, key)
	}
}
